#pragma once

#include <ATen/core/Tensor.h>

#include "effective/storage_context.h"
#include "kernels/activation.h"

namespace lowrank::effective {

/// Computes the activation of x·Mᵀ + bias with our kernels, as one autograd node; x is (..., in), M
/// (out, in), bias (out) or undefined, all without a mark. If `accelerated` (which may be null) has
/// a place for M's gradient, the backward pass leaves it there. Returns an undefined tensor if the
/// kernels cannot compute it: another dtype or device, autocast, forward derivatives, tracing.
at::Tensor try_linear_node(const at::Tensor& x, const at::Tensor& matrix, const at::Tensor& bias,
                           const AcceleratedWeight* accelerated,
                           kernels::Activation activation = kernels::Activation::kNone);

}  // namespace lowrank::effective
