#pragma once

#include "effective/ops/compose.h"
#include "kernels/activation.h"

namespace lowrank::effective {

/// x·Mᵀ + bias through the activation, by the kernels, under autograd, x (..., in), M (out, in),
/// all without a mark; undefined where they cannot take it: another dtype or device, autocast,
/// forward derivatives, tracing.
at::Tensor try_fast_linear(const at::Tensor& x, const at::Tensor& matrix,
                           const OptionalTensor& bias,
                           kernels::Activation activation = kernels::Activation::kNone);

}  // namespace lowrank::effective
