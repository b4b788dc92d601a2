#pragma once

#include <ATen/core/Tensor.h>

namespace lowrank::init {

/// Returns a batch `x` (..., in) of a layer's inputs as a finite float64 matrix (rows, in). Throws
/// TensorError, "[method] ...", if it is not one, or if its last dimension is not `in` (0 means
/// any).
at::Tensor layer_inputs(const char* method, const at::Tensor& x, int64_t in);

}  // namespace lowrank::init
