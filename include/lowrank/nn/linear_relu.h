#pragma once

#include <ATen/core/Tensor.h>
#include <lowrank/export.h>
#include <torch/nn/modules/linear.h>

namespace lowrank::nn {

/// Returns relu(layer(x)) of shape (..., out) for x of shape (..., in). Values and gradients are
/// the same as those of torch::relu(layer->forward(x)). If the layer is adapted or accelerated,
/// lowrank's kernels compute the layer and the ReLU in one pass, with one node in autograd's graph
/// (docs/performance-log.md says what that saves). Otherwise this makes those two calls.
LOWRANK_API at::Tensor linear_relu(torch::nn::LinearImpl& layer, const at::Tensor& x);

}  // namespace lowrank::nn
