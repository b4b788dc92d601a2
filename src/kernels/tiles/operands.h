#pragma once

#include <cstdint>

/// The arguments of the kernels: raw float32 memory and the parameters of one call.
namespace lowrank::kernels {

/// The range [begin, end).
struct Span {
  int64_t begin, end;
};

/// x (rows, depth) and w (depth, columns), whose rows are contiguous and `w_row` apart. Strides are
/// in elements.
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
  bool rectify = false;         ///< y = max(0, y) after all the rest; NaN stays NaN
  float* y = nullptr;           ///< (rows, columns)
  int64_t y_row = 0;
  /// A (rows, columns) matrix that the caller reads next, so multiply() prefetches it.
  const float* beside = nullptr;
  int64_t beside_row = 0;
};

/// The parameters of one step, in float64 as PyTorch keeps them.
struct AdamStep {
  double beta1, beta2;
  double epsilon;
  double step_size;         ///< learning rate / (1 - beta1^t)
  double root_correction2;  ///< sqrt(1 - beta2^t)
  double decay = 1;  ///< 1 - learning rate · weight decay; the parameter is multiplied by it
};

/// SumFigures (add_product.h) while they are being summed up, one for each lane of a register.
struct SumLanes {
  static constexpr int kLanes = 16;
  float largest[kLanes] = {}, change[kLanes] = {}, rounding[kLanes] = {};
};

/// Floats in one cache line.
constexpr int64_t kLine = 16;

/// The columns are divided among threads in multiples of these.
constexpr int64_t kColumnUnit = 64;
constexpr int64_t kTransposedColumnUnit = 16;

}  // namespace lowrank::kernels
