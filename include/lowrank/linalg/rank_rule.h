#pragma once

#include <ATen/core/Tensor.h>
#include <lowrank/export.h>

#include <cstdint>
#include <optional>

namespace lowrank {

/// How a rank is chosen from the singular values of a matrix. The functions that make a rule throw
/// ArgumentError for an argument that is out of range.
class LOWRANK_API RankRule {
 public:
  /// NumPy's numerical rank (numerical_rank.h).
  static RankRule numerical();
  /// Exactly `rank`, which is at least 1; choose() refuses a rank above min(m, n).
  static RankRule number(int64_t rank);
  /// `rank`, or min(m, n) if that is smaller.
  static RankRule at_most(int64_t rank);
  /// The smallest k whose error √(Σ_{i>k} σᵢ²) / √(Σ σᵢ²), the relative Frobenius error, is at most
  /// `error`, in [0, 1); 0 for a zero matrix. The sums are taken in float64, smallest values first.
  static RankRule max_error(double error);
  /// The smallest k with (Σ_{i≤k} σᵢ²) / (Σ σᵢ²) ≥ `share`, where `share` is in (0, 1]; 0 for a
  /// zero matrix. The sums are taken in float64.
  static RankRule energy(double share);
  /// The number of singular values above `tolerance`, which is absolute (NumPy's `tol`), finite and
  /// not negative.
  static RankRule tolerance(double tolerance);

  /// Returns the rank for a matrix (rows, columns) with these singular values (k = min(rows,
  /// columns), descending). Throws what require_possible() throws.
  int64_t choose(const at::Tensor& singular_values, int64_t rows, int64_t columns) const;

  /// Throws ArgumentError if no (rows, columns) matrix can have this rank. Call it before a
  /// decomposition, which is the expensive part.
  void require_possible(int64_t rows, int64_t columns) const;

  /// Returns the rank if it is a number that depends on no singular value, for a matrix of this
  /// size; nullopt for the other rules.
  std::optional<int64_t> known_rank(int64_t rows, int64_t columns) const;

 private:
  enum class Kind { kNumerical, kNumber, kAtMost, kMaxError, kEnergy, kTolerance };
  RankRule(Kind kind, int64_t rank, double value) : kind_(kind), rank_(rank), value_(value) {}

  Kind kind_;
  int64_t rank_;  // for kNumber and kAtMost
  double value_;  // the share of kEnergy, the error of kMaxError, the tolerance of kTolerance
};

}  // namespace lowrank
