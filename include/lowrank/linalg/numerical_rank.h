#pragma once

#include <ATen/core/Tensor.h>
#include <lowrank/export.h>

#include <cstdint>
#include <string_view>

namespace lowrank {

/// NumPy's rule (numpy.linalg.matrix_rank): a singular value counts where it is above
/// σ₁ · max(m, n) · eps, with eps of the dtype the decomposition was computed in (thin_svd.h),
/// which is that of `singular_values` (k). Gives that tolerance; 0 where there are no singular
/// values.
LOWRANK_API double numerical_tolerance(const at::Tensor& singular_values, int64_t rows,
                                       int64_t columns);

/// How many of `singular_values` (k, in any order) are above `tolerance`.
LOWRANK_API int64_t count_above(const at::Tensor& singular_values, double tolerance);

/// The numerical rank of `w` (m, n) by NumPy's rule; 0 for empty and for zero matrices. Throws
/// what thin_svd() throws.
LOWRANK_API int64_t numerical_rank(const at::Tensor& w, std::string_view name = "W");

/// The same with an absolute tolerance, NumPy's `tol`: the number of singular values above it.
/// Throws ArgumentError where `tolerance` is negative, NaN or Inf.
LOWRANK_API int64_t numerical_rank(const at::Tensor& w, double tolerance,
                                   std::string_view name = "W");

}  // namespace lowrank
