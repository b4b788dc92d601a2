#include "kernels/thin_product.h"

#include <ATen/Parallel.h>

#include <algorithm>

#include "kernels/parallel.h"

namespace lowrank::kernels {
namespace {

/// Multiplications a thread should at least have: below this, waking it up costs more.
constexpr int64_t kWorkPerThread = int64_t{1} << 18;
/// Rows that a thread is given at least where the columns are too few to share.
constexpr int64_t kRowUnit = 16;

int64_t ceiling(int64_t count, int64_t unit) { return (count + unit - 1) / unit; }

template <class Kernel>
void share(const ThinProduct& product, int64_t column_unit, const Kernel& kernel) {
  const int64_t rows = product.rows, columns = product.columns;
  if (rows == 0 || columns == 0) return;
  const auto work = rows * columns * (product.first.depth + product.second.depth);
  const auto threads = std::min<int64_t>(at::get_num_threads(), work / kWorkPerThread);
  if (threads <= 1) return kernel(product, Span{0, rows}, Span{0, columns});
  const auto column_units = ceiling(columns, column_unit), row_units = ceiling(rows, kRowUnit);
  if (column_units >= threads || column_units >= row_units) {
    parallel_for(0, column_units, ceiling(column_units, threads), [&](int64_t begin, int64_t end) {
      kernel(product, Span{0, rows},
             Span{begin * column_unit, std::min(columns, end * column_unit)});
    });
  } else {
    parallel_for(0, row_units, ceiling(row_units, threads), [&](int64_t begin, int64_t end) {
      kernel(product, Span{begin * kRowUnit, std::min(rows, end * kRowUnit)}, Span{0, columns});
    });
  }
}

}  // namespace

void multiply(const ThinProduct& product, const KernelTable& kernels) {
  share(product, kColumnUnit, kernels.multiply);
}

void multiply_transposed(const ThinProduct& product, const KernelTable& kernels) {
  share(product, kTransposedColumnUnit, kernels.multiply_transposed);
}

}  // namespace lowrank::kernels
