#pragma once

#include <ATen/core/Tensor.h>

#include "adapter/effective/effective_weight.h"

namespace lowrank::effective {

/// y = x·Wᵀ + bias + s·(x·Aᵀ)·Bᵀ under autograd, in factored form. `x` is (..., in), `weight`
/// (out, in) and not marked, `bias` (out) or undefined; the result is (..., out). Gradients flow to
/// x, A, B and bias (and to W where it requires one); double backward works.
at::Tensor adapted_linear(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                          const Factors& factors);

}  // namespace lowrank::effective
