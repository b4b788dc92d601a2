#pragma once

#include <ATen/core/Tensor.h>

#include <string_view>

namespace lowrank {

/// `w` without its gradient, in the dtype in which linear algebra is done on it: float64 stays,
/// float32 stays, half types become float32, integers and bool float64. Throws TensorError,
/// "[operation] name must ...", if w is not a real, dense, finite matrix.
at::Tensor finite_matrix(std::string_view operation, std::string_view name, const at::Tensor& w);

/// The spacing of the numbers of the dtype in which linear algebra is done on a matrix of `dtype`,
/// at 1.
double spacing_of(at::ScalarType dtype);

}  // namespace lowrank
