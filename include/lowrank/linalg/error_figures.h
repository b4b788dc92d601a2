#pragma once

#include <ATen/core/Tensor.h>
#include <lowrank/export.h>

namespace lowrank {

/// How far B·A is from W, with R = W - B·A.
struct ErrorFigures {
  double frobenius = 0;           // ‖R‖_F
  double relative_frobenius = 0;  // ‖R‖_F / ‖W‖_F; 0 if R is zero, infinite if only W is zero
  double spectral = 0;            // ‖R‖₂, the largest singular value of R
  double retained_energy = 1;  // 1 - ‖R‖_F² / ‖W‖_F²: for a truncated SVD it is Σ_{i≤r} σᵢ² / Σ σᵢ²
  double largest_entry = 0;  // max |Rᵢⱼ|
};

/// Measures the actual error of the factors `b` (m, r) and `a` (r, n) as an approximation of `w`
/// (m, n). R is computed in float64, whatever the dtypes are, a block of rows at a time. ‖R‖₂ comes
/// from the singular values of R if min(m, n) is at most 512, and otherwise from
/// Golub-Kahan-Lanczos bidiagonalization (relative accuracy about 1e-9).
///
/// Throws TensorError for shapes that do not fit each other, and for NaN or Inf in any of the three
/// tensors.
LOWRANK_API ErrorFigures error_figures(const at::Tensor& w, const at::Tensor& b,
                                       const at::Tensor& a);

}  // namespace lowrank
