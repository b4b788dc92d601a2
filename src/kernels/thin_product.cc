#include "kernels/thin_product.h"

#include <ATen/Parallel.h>
#include <ATen/ceil_div.h>

#include <algorithm>
#include <memory>

#include "kernels/parallel.h"

namespace lowrank::kernels {
namespace {

/// Multiplications a thread should at least have: below this, waking it up costs more.
constexpr int64_t kWorkPerThread = int64_t{1} << 18;
/// Rows that a thread is given at least where the columns are too few to share.
constexpr int64_t kRowUnit = 16;
/// Numbers of w from which on its halves are read apart: what does not stay in a core's own cache.
constexpr int64_t kLargeMatrix = int64_t{1} << 18;
/// Sums a thread should at least add up.
constexpr int64_t kSumsPerThread = int64_t{1} << 15;

int64_t threads_for(const ThinProduct& product) {
  const auto depth = product.first.depth + product.second.depth;
  const auto work = product.rows * product.columns * depth / kWorkPerThread;
  return std::max<int64_t>(1, std::min<int64_t>(at::get_num_threads(), work));
}

/// A product's columns in even parts, or its rows where the columns are too few.
class Parts {
 public:
  Parts(const ThinProduct& product, int64_t column_unit, int64_t most)
      : rows_(product.rows), columns_(product.columns) {
    const auto column_units = at::ceil_div(columns_, column_unit),
               row_units = at::ceil_div(rows_, kRowUnit);
    of_columns_ = column_units >= most || column_units >= row_units;
    unit_ = of_columns_ ? column_unit : kRowUnit;
    units_ = of_columns_ ? column_units : row_units;
    count_ = std::min(most, units_);
  }

  int64_t count() const { return count_; }
  Span rows(int64_t i) const { return of_columns_ ? Span{0, rows_} : part(i, rows_); }
  Span columns(int64_t i) const { return of_columns_ ? part(i, columns_) : Span{0, columns_}; }

 private:
  Span part(int64_t i, int64_t end) const {
    return {units_ * i / count_ * unit_, std::min(end, units_ * (i + 1) / count_ * unit_)};
  }

  int64_t rows_, columns_, unit_ = 1, units_ = 0, count_ = 0;
  bool of_columns_ = true;
};

template <class F>
void for_each(int64_t count, const F& f) {
  if (count == 1) return f(0);
  parallel_for(0, count, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) f(i);
  });
}

template <class Kernel>
void share(const ThinProduct& product, int64_t column_unit, const Kernel& kernel) {
  if (product.rows == 0 || product.columns == 0) return;
  const Parts parts(product, column_unit, threads_for(product));
  for_each(parts.count(), [&](int64_t i) { kernel(product, parts.rows(i), parts.columns(i)); });
}

/// y += added, (rows, columns) without gaps.
void add_to(const ThinProduct& product, const float* added) {
  const auto columns = product.columns;
  const auto grain = at::ceil_div(kSumsPerThread, columns);
  parallel_for(0, product.rows, grain, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      float* const y = product.y + row * product.y_row;
      for (int64_t i = 0; i < columns; ++i) y[i] += added[row * columns + i];
    }
  });
}

}  // namespace

void multiply(const ThinProduct& product, const KernelTable& kernels) {
  share(product, kColumnUnit, kernels.multiply);
}

void multiply_halves(const ThinProduct& product, const KernelTable& kernels) {
  const auto depth = product.first.depth;
  if (depth * product.columns < kLargeMatrix) return multiply(product, kernels);
  const auto size = static_cast<size_t>(product.rows * product.columns);
  if (size == 0) return;
  const std::unique_ptr<float[]> sums(new float[size]);
  ThinProduct upper = product, lower = product;
  upper.first.depth = depth / 2;
  upper.second = {};
  lower.first.x += upper.first.depth * product.first.x_column;
  lower.first.w += upper.first.depth * product.first.w_row;
  lower.first.depth = depth - upper.first.depth;
  lower.bias = nullptr;
  lower.accumulate = false;
  lower.y = sums.get();
  lower.y_row = product.columns;
  // Each half by half of the threads; by all of them where they are of an odd number.
  const auto threads = threads_for(product);
  const Parts parts(product, kColumnUnit, threads % 2 == 0 ? threads / 2 : threads);
  for_each(2 * parts.count(), [&](int64_t i) {
    const auto part = i % parts.count();
    kernels.multiply(i < parts.count() ? upper : lower, parts.rows(part), parts.columns(part));
  });
  add_to(product, sums.get());
}

void multiply_transposed(const ThinProduct& product, const KernelTable& kernels) {
  share(product, kTransposedColumnUnit, kernels.multiply_transposed);
}

}  // namespace lowrank::kernels
