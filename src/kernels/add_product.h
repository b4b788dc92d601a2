#pragma once

#include <cstdint>

#include "kernels/thin_product.h"

/// W + X·Y in one pass over W, on raw float32 memory. This is how factors are merged into a weight.
namespace lowrank::kernels {

/// Statistics of an addition, over all of its numbers.
struct SumFigures {
  float largest = 0;               ///< max |X·Y|
  double squares_of_change = 0;    ///< Σ (X·Y)²
  double squares_of_rounding = 0;  ///< Σ (rounding error of W + X·Y)², X·Y in float32
};

/// to = from + product.first, (rows, columns) row by row; `to` may be `from`. Each number of the
/// product is summed up completely, as in multiply(), before it is added. Neither the sum nor the
/// statistics depend on the number of threads.
SumFigures add_product(float* to, const float* from, const ThinProduct& product,
                       const KernelTable& kernels = kernel_table());

/// max |x|; NaN if any x is NaN, and 0 if `count` is 0.
float largest_magnitude(const float* x, int64_t count, const KernelTable& kernels = kernel_table());

}  // namespace lowrank::kernels
