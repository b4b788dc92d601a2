#pragma once

#include <ATen/core/Tensor.h>
#include <lowrank/export.h>

#include <cstdint>

namespace lowrank {

/// How a rank is chosen from the singular values of a matrix. The ranges of the arguments are
/// checked on construction (ArgumentError).
class LOWRANK_API RankRule {
 public:
  /// NumPy's numerical rank (numerical_rank.h).
  static RankRule numerical();
  /// Exactly `rank`, at least 1; choose() refuses more than min(m, n).
  static RankRule number(int64_t rank);
  /// The smallest k with (Σ_{i≤k} σᵢ²) / (Σ σᵢ²) ≥ `share`, which lies in (0, 1]; 0 for a zero
  /// matrix. The sums are taken in float64.
  static RankRule energy(double share);
  /// As many as are above `tolerance`, which is absolute (NumPy's `tol`), finite and not negative.
  static RankRule tolerance(double tolerance);

  /// The rank for a matrix (rows, columns) with these singular values (k = min(rows, columns),
  /// descending). Throws what require_possible() throws.
  int64_t choose(const at::Tensor& singular_values, int64_t rows, int64_t columns) const;

  /// Throws ArgumentError where no (rows, columns) matrix can have this rank: to be called before
  /// a decomposition is paid for.
  void require_possible(int64_t rows, int64_t columns) const;

 private:
  enum class Kind { kNumerical, kNumber, kEnergy, kTolerance };
  RankRule(Kind kind, int64_t rank, double value) : kind_(kind), rank_(rank), value_(value) {}

  Kind kind_;
  int64_t rank_;  // of kNumber
  double value_;  // the share of kEnergy, the tolerance of kTolerance
};

}  // namespace lowrank
