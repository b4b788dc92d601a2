#pragma once

#include <cstdint>

/// What the kernels are called with: plain memory of float32 and the numbers of one call.
namespace lowrank::kernels {

/// From `begin` up to `end`.
struct Span {
  int64_t begin, end;
};

/// x (rows, depth), each stride in elements, and a matrix w whose rows lie `w_row` apart and are
/// contiguous.
struct ThinTerm {
  const float* x = nullptr;
  int64_t x_row = 0, x_column = 1;
  const float* w = nullptr;
  int64_t w_row = 0;
  int64_t depth = 0;  ///< 0: the term is left out
};

struct ThinProduct {
  ThinTerm first, second = {};
  int64_t rows = 0, columns = 0;
  const float* bias = nullptr;  ///< (columns), or null
  bool accumulate = false;      ///< y += instead of y =
  bool rectify = false;         ///< max(0, y) of all that in place of y, NaN as it is
  float* y = nullptr;           ///< (rows, columns)
  int64_t y_row = 0;
  /// (rows, columns) that is read next: multiply() asks memory for it meanwhile.
  const float* beside = nullptr;
  int64_t beside_row = 0;
};

/// The numbers of one step, in float64 as PyTorch keeps them.
struct AdamStep {
  double beta1, beta2;
  double epsilon;
  double step_size;         ///< learning rate / (1 - beta1^t)
  double root_correction2;  ///< sqrt(1 - beta2^t)
};

/// SumFigures (add_product.h) while they are summed up, lane by lane of a register.
struct SumLanes {
  static constexpr int kLanes = 16;
  float largest[kLanes] = {}, change[kLanes] = {}, rounding[kLanes] = {};
};

/// Floats of one line of the cache.
constexpr int64_t kLine = 16;

/// Threads share the columns in units of these.
constexpr int64_t kColumnUnit = 64;
constexpr int64_t kTransposedColumnUnit = 4;

}  // namespace lowrank::kernels
