#pragma once

#include <ATen/core/Tensor.h>

#include "effective/storage_context.h"
#include "kernels/activation.h"

namespace lowrank::effective {

/// x·Mᵀ + bias through the activation, by our kernels and as one node of autograd; x (..., in),
/// M (out, in), bias (out) or undefined, all without a mark. Where `accelerated`, which may be
/// null, has a place for M's gradient, the backward pass leaves it there. Undefined where the
/// kernels cannot take it: another dtype or device, autocast, forward derivatives, tracing.
at::Tensor try_linear_node(const at::Tensor& x, const at::Tensor& matrix, const at::Tensor& bias,
                           const AcceleratedWeight* accelerated,
                           kernels::Activation activation = kernels::Activation::kNone);

}  // namespace lowrank::effective
