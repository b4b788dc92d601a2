#pragma once

#include <ATen/Parallel.h>
#include <ATen/ceil_div.h>

#include <algorithm>

#include "kernels/parallel.h"
#include "kernels/thin_product.h"

/// How threads share one product.
namespace lowrank::kernels {

/// The fewest multiplications that a thread gets: with fewer, waking it up costs more than they do.
constexpr int64_t kWorkPerThread = int64_t{1} << 18;
/// The fewest rows that a thread gets if there are too few columns to share.
constexpr int64_t kRowUnit = 16;

/// Returns how many threads a product is worth.
inline int64_t threads_for(const ThinProduct& product) {
  const auto depth = product.first.depth + product.second.depth;
  const auto work = product.rows * product.columns * depth / kWorkPerThread;
  return std::max<int64_t>(1, std::min<int64_t>(at::get_num_threads(), work));
}

/// Divides a product's columns into even parts, or its rows if there are too few columns.
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

/// Calls f(0), f(1), ..., f(count - 1), on as many threads as there are.
template <class F>
void for_each(int64_t count, const F& f) {
  if (count == 1) return f(0);
  parallel_for(0, count, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) f(i);
  });
}

}  // namespace lowrank::kernels
