#pragma once

#include "effective/ops/compose.h"

namespace lowrank::effective {

/// y = x·Mᵀ + bias + s·(x·Aᵀ)·Bᵀ under autograd, in factored form. `x` is (..., in), `matrix`
/// (out, in) and not marked, `bias` (out), possibly marked, or none; the result is (..., out).
/// Gradients flow to x, the factors and the bias (and to W where it requires one); double backward
/// works.
at::Tensor adapted_linear(const at::Tensor& x, const at::Tensor& matrix, const OptionalTensor& bias,
                          const Use& use);

/// relu of the same in one node of autograd; undefined where the kernels do not compute the layer,
/// or there is more to do than to add one adapter's factors.
at::Tensor try_adapted_linear_relu(const at::Tensor& x, const at::Tensor& matrix,
                                   const OptionalTensor& bias, const Use& use);

}  // namespace lowrank::effective
