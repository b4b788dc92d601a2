#pragma once

#include <algorithm>
#include <array>

#include "kernels/thin_product.h"

/// Products that are used up as they are formed, beside large memory that goes by once.
namespace lowrank::kernels {

/// A part stays in the near caches.
constexpr int64_t kPartRows = 6, kPartColumns = 32 * kColumnUnit;

/// f(numbers, at, count) for part after part of these rows of product.first: so many numbers of the
/// product, where they would lie in a (rows, columns) matrix that lies row after row.
template <class F>
void for_parts(const ThinProduct& product, Span rows, const KernelTable& kernels, const F& f) {
  std::array<float, kPartRows * kPartColumns> numbers;
  for (int64_t row = rows.begin; row < rows.end; row += kPartRows) {
    const auto count = std::min(kPartRows, rows.end - row);
    for (int64_t column = 0; column < product.columns; column += kPartColumns) {
      const auto columns = std::min(kPartColumns, product.columns - column);
      ThinProduct part = product;
      part.first.x += row * part.first.x_row;
      part.first.w += column;
      part.y = numbers.data();
      part.y_row = columns;
      kernels.multiply(part, Span{0, count}, Span{0, columns});
      if (columns == product.columns) {
        f(numbers.data(), row * columns, count * columns);
        continue;
      }
      for (int64_t i = 0; i < count; ++i) {
        f(numbers.data() + i * columns, (row + i) * product.columns + column, columns);
      }
    }
  }
}

/// f(begin, count) for stretch after stretch of `count` numbers. Who forms a product in between
/// reads memory with pauses, in which the machine forgets that it is read in order: what lies a
/// page further in each of `memory` is asked for by name.
template <size_t N, class F>
void look_ahead(const std::array<const float*, N>& memory, int64_t count, const F& f) {
  constexpr int64_t kAhead = 1024, kStretch = 256;
  for (int64_t begin = 0; begin < count; begin += kStretch) {
    const auto size = std::min(kStretch, count - begin);
    for (int64_t i = begin + kAhead; i < begin + kAhead + size; i += kLine) {
      for (const auto* from : memory) __builtin_prefetch(from + i, /*rw=*/1, /*locality=*/2);
    }
    f(begin, size);
  }
}

}  // namespace lowrank::kernels
