#pragma once

#include <ATen/core/Tensor.h>
#include <lowrank/export.h>

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string_view>

namespace lowrank {

/// What the singular values σ₁ ≥ σ₂ ≥ ... of a matrix say about its rank, in float64. All figures
/// of a zero matrix, and of one without entries, are 0.
struct Spectrum {
  double largest = 0;          ///< σ₁, the spectral norm
  double norm = 0;             ///< √(Σ σᵢ²), the Frobenius norm
  int64_t numerical_rank = 0;  ///< by NumPy's rule (numerical_rank.h)
  double stable_rank = 0;  ///< Σ σᵢ² / σ₁² (Rudelson and Vershynin, arXiv math/0503442)
  double effective_rank = 0;  ///< exp of the entropy of σᵢ / Σ σᵢ (Roy and Vetterli, EUSIPCO 2007)
  /// The smallest ranks that keep 90, 95 and 99 % of Σ σᵢ².
  int64_t rank_90 = 0, rank_95 = 0, rank_99 = 0;
};

LOWRANK_API nlohmann::ordered_json to_json(const Spectrum& spectrum);

/// Returns the figures of a matrix (rows, columns) with these singular values, in any order.
/// `epsilon` is the spacing of the numbers that the matrix was stored or computed in, for NumPy's
/// rule.
LOWRANK_API Spectrum spectrum_of(const at::Tensor& singular_values, int64_t rows, int64_t columns,
                                 double epsilon);

/// Returns the figures of `w` (m, n). A float64 matrix is decomposed by LAPACK. For other dtypes,
/// the singular values are the square roots of the eigenvalues of W·Wᵀ or Wᵀ·W, whichever is
/// smaller, in float64. That costs less, and is accurate to about 1e-8·σ₁, which is finer than
/// those dtypes are. Throws what thin_svd() throws.
LOWRANK_API Spectrum spectrum(const at::Tensor& w, std::string_view name = "W");

}  // namespace lowrank
