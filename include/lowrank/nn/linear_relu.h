#pragma once

#include <ATen/core/Tensor.h>
#include <lowrank/export.h>
#include <torch/nn/modules/linear.h>

namespace lowrank::nn {

/// relu(layer(x)), x (..., in) to (..., out): of the same numbers, and of the same gradients, as
/// torch::relu(layer->forward(x)). Where the layer is adapted or accelerated, its kernels compute
/// both in one pass and one node of autograd's graph (docs/performance.md says what that brings);
/// else this is those two calls.
LOWRANK_API at::Tensor linear_relu(torch::nn::LinearImpl& layer, const at::Tensor& x);

}  // namespace lowrank::nn
