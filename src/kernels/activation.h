#pragma once

#include <ATen/core/Tensor.h>

namespace lowrank::kernels {

/// The function that a layer applies to its output before the output is first written to memory.
enum class Activation { kNone, kRelu };

/// The gradient of relu's input, from the gradient dy of its output y: dy, but 0 where y is at most
/// 0, as in aten::threshold_backward. Any dtype and device.
at::Tensor relu_gradient(const at::Tensor& dy, const at::Tensor& y);

}  // namespace lowrank::kernels
