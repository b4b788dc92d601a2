#pragma once

#include "effective/ops/compose.h"

namespace lowrank::effective {

/// relu(x·Wᵀ + bias) for whatever `weight` (out, in) means now, x (..., in), under autograd, where
/// the kernels compute the layer; undefined where they do not, with nothing done.
at::Tensor try_linear_relu(const at::Tensor& x, const at::Tensor& weight,
                           const OptionalTensor& bias);

}  // namespace lowrank::effective
