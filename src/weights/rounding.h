#pragma once

#include <ATen/core/Tensor.h>
#include <lowrank/io/float8.h>

#include <cstdint>
#include <optional>

namespace lowrank {

/// What became of numbers that were changed and then rounded to a dtype. The sums are of squares,
/// in float64, and do not depend on the number of threads.
struct RoundedFigures {
  double update = 0;      ///< Σ (exact - before)²
  double rounding = 0;    ///< Σ (rounded - exact)²
  int64_t unchanged = 0;  ///< numbers that are as they were in the file
  bool is_finite = true;  ///< whether no number became NaN or Inf that was neither before
};

/// Rounds `exact` to the dtype of `to`, as Tensor::copy_() does. `before` and `exact` are float64,
/// `own` has the dtype of `to` (float64, float32, float16 or bfloat16); all are contiguous, on the
/// CPU, and of one number of elements.
/// With `float8`, float32 numbers are rounded to those that the kind has.
RoundedFigures round_into(const at::Tensor& to, const at::Tensor& exact, const at::Tensor& before,
                          const at::Tensor& own, std::optional<Float8> float8 = std::nullopt);

}  // namespace lowrank
