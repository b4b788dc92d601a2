#pragma once

#include <ATen/core/Tensor.h>

namespace lowrank {

/// Returns the Frobenius norm of a tensor of any shape and real dtype, summed up in float64 a block
/// at a time. Numbers whose squares float64 cannot hold are scaled first; NaN gives NaN, Inf Inf.
double norm_in_float64(const at::Tensor& x);

}  // namespace lowrank
