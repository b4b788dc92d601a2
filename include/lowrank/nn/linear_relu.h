#pragma once

#include <ATen/core/Tensor.h>
#include <lowrank/export.h>
#include <torch/nn/modules/linear.h>

namespace lowrank::nn {

/// Returns relu(layer(x)) of shape (..., out) for x of shape (..., in). Values and gradients are
/// the same as those of torch::relu(layer->forward(x)). If the layer is adapted or accelerated, its
/// kernels compute both in one pass and one node of autograd's graph (docs/performance-log.md says
/// what that saves); otherwise this makes those two calls.
LOWRANK_API at::Tensor linear_relu(torch::nn::LinearImpl& layer, const at::Tensor& x);

}  // namespace lowrank::nn
