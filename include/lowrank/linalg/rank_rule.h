#pragma once

#include <ATen/core/Tensor.h>
#include <lowrank/export.h>

#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <utility>

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
  /// The rules of kohya-ss's resize_lora.py (--dynamic_method sv_ratio, sv_cumulative and sv_fro).
  /// They give exactly the ranks that it chooses: k + 1, where k is
  ///   sv_ratio: the number of singular values above σ₁ / `ratio`; `ratio` is at least 1;
  ///   sv_cumulative: the smallest number with (Σ_{i≤k} σᵢ) / (Σ σᵢ) ≥ `share`;
  ///   sv_fro: the smallest number with (Σ_{i≤k} σᵢ²) / (Σ σᵢ²) ≥ `share`²;
  /// but at least 1 and at most min(m, n) - 1. `share` is in (0, 1]. If σ₁ ≤ 1e-6, or if m or n is
  /// 1, the rank is 1.
  static RankRule sv_ratio(double ratio);
  static RankRule sv_cumulative(double share);
  static RankRule sv_fro(double share);
  /// The number of singular values above the threshold of Gavish and Donoho (arXiv 1305.5870) for a
  /// low-rank matrix in white noise, with β = min(m, n) / max(m, n). If the noise of an entry is
  /// known to have the standard deviation `deviation`, which is above 0, the threshold is
  /// λ(β)·√max(m, n)·`deviation`. Otherwise it is ω(β) times the median singular value, for which
  /// all singular values are needed.
  static RankRule noise(std::optional<double> deviation = std::nullopt);

  /// Returns the rule with a rank of at least `least` and at most `most`, as far as min(m, n)
  /// allows. Throws ArgumentError unless 1 ≤ least ≤ most.
  RankRule within(int64_t least, int64_t most) const;

  /// Returns the rule in words that differ from those of any other rule: "energy 0.9, rank 1 to
  /// 64".
  std::string text() const;

  /// Returns the limits that within() set; without any, 0 and the largest int64.
  std::pair<int64_t, int64_t> limits() const { return {least_, most_}; }

  /// Returns the rank for a matrix (rows, columns) with these singular values (k = min(rows,
  /// columns), descending). Throws what require_possible() throws.
  int64_t choose(const at::Tensor& singular_values, int64_t rows, int64_t columns) const;

  /// Whether this is noise() without a known deviation, which assumes that the noise is white.
  bool assumes_white_noise() const { return kind_ == Kind::kNoise && value_ == 0; }

  /// Throws ArgumentError if no (rows, columns) matrix can have this rank. Call it before a
  /// decomposition, which is the expensive part.
  void require_possible(int64_t rows, int64_t columns) const;

  /// Returns the rank for a matrix of this size if it does not depend on the singular values
  /// (number() and at_most()); otherwise nullopt.
  std::optional<int64_t> known_rank(int64_t rows, int64_t columns) const;

 private:
  enum class Kind {
    kNumerical,
    kNumber,
    kAtMost,
    kMaxError,
    kEnergy,
    kTolerance,
    kRatio,
    kCumulative,
    kFro,
    kNoise
  };
  RankRule(Kind kind, int64_t rank, double value) : kind_(kind), rank_(rank), value_(value) {}
  int64_t chosen(const at::Tensor& singular_values, int64_t rows, int64_t columns) const;

  Kind kind_;
  int64_t rank_;  // for kNumber and kAtMost
  double value_;  // the argument of the others; 0 for kNoise if the deviation is not known
  int64_t least_ = 0, most_ = std::numeric_limits<int64_t>::max();
};

}  // namespace lowrank
