#pragma once

#include <ATen/core/Tensor.h>
#include <lowrank/export.h>

#include <cstdint>
#include <string_view>

namespace lowrank {

/// Returns the tolerance of NumPy's rule (numpy.linalg.matrix_rank), by which a singular value
/// counts if it is above σ₁ · max(m, n) · eps. eps is that of the dtype of `singular_values` (k),
/// which must be the dtype that the decomposition was computed in (thin_svd.h). Returns 0 if there
/// are no singular values.
LOWRANK_API double numerical_tolerance(const at::Tensor& singular_values, int64_t rows,
                                       int64_t columns);

/// Returns how many of `singular_values` (k, in any order) are above `tolerance`.
LOWRANK_API int64_t count_above(const at::Tensor& singular_values, double tolerance);

/// Returns the numerical rank of `w` (m, n) by NumPy's rule; 0 for empty and for zero matrices.
/// Throws what thin_svd() throws.
LOWRANK_API int64_t numerical_rank(const at::Tensor& w, std::string_view name = "W");

/// Returns the number of singular values above an absolute tolerance, NumPy's `tol`. Also throws
/// ArgumentError if `tolerance` is negative, NaN or Inf.
LOWRANK_API int64_t numerical_rank(const at::Tensor& w, double tolerance,
                                   std::string_view name = "W");

}  // namespace lowrank
