#pragma once

#include <ATen/core/Tensor.h>

namespace lowrank::kernels {

/// What a layer's output goes through where it is computed, and not written to memory before.
enum class Activation { kNone, kRelu };

/// The gradient before relu from the one behind it and y = relu(...): dy, but 0 where y is at most
/// 0, as aten::threshold_backward has it. Any dtype and device.
at::Tensor relu_gradient(const at::Tensor& dy, const at::Tensor& y);

}  // namespace lowrank::kernels
