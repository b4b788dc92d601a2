#pragma once

#include <algorithm>
#include <array>

#include "kernels/thin_product.h"

/// Forms a product part by part. Each part is used as soon as it is formed, together with a large
/// memory that is read once from start to end.
namespace lowrank::kernels {

/// The numbers of the largest part (KernelTable::part_rows, part_columns) of any instruction set.
constexpr size_t kMostPartNumbers = size_t{6} * 2048;

/// Calls f(numbers, at, count) for each part of these rows of product.first: `numbers` are `count`
/// numbers of the product, from index `at` of the (rows, columns) matrix, counted row by row.
template <class F>
void for_parts(const ThinProduct& product, Span rows, const KernelTable& kernels, const F& f) {
  std::array<float, kMostPartNumbers> numbers;
  for (int64_t row = rows.begin; row < rows.end; row += kernels.part_rows) {
    const auto count = std::min(kernels.part_rows, rows.end - row);
    for (int64_t column = 0; column < product.columns; column += kernels.part_columns) {
      const auto columns = std::min(kernels.part_columns, product.columns - column);
      ThinProduct part = product;
      part.first.x += row * part.first.x_row;
      part.first.w += column;
      part.y = numbers.data();
      part.y_row = columns;
      if (product.beside != nullptr) part.beside += row * product.beside_row + column;
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

}  // namespace lowrank::kernels
