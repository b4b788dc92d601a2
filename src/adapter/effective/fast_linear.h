#pragma once

#include "adapter/effective/compose.h"

namespace lowrank::effective {

/// x·Mᵀ + bias by the kernels, under autograd, x (..., in), M (out, in), all without a mark;
/// undefined where they cannot take it: another dtype or device, autocast, forward derivatives,
/// tracing.
at::Tensor try_fast_linear(const at::Tensor& x, const at::Tensor& matrix,
                           const OptionalTensor& bias);

}  // namespace lowrank::effective
