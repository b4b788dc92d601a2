#pragma once

#include <cstdint>

#include "kernels/thin_product.h"

/// W + X·Y in one pass over W, on plain memory of float32: how factors get into a weight.
namespace lowrank::kernels {

/// What an addition did, summed up over its numbers.
struct SumFigures {
  float largest = 0;               ///< max |X·Y|
  double squares_of_change = 0;    ///< Σ (X·Y)²
  double squares_of_rounding = 0;  ///< Σ (what to lacks of W + X·Y, whose X·Y is of float32)²
};

/// to = from + product.first, (rows, columns) row after row; `to` may be `from`. Each number of the
/// product is formed whole, as multiply() does, before it is added. The figures too do not depend
/// on the number of threads.
SumFigures add_product(float* to, const float* from, const ThinProduct& product,
                       const KernelTable& kernels = kernel_table());

/// max |x|; NaN where one is, and 0 of none.
float largest_magnitude(const float* x, int64_t count, const KernelTable& kernels = kernel_table());

}  // namespace lowrank::kernels
