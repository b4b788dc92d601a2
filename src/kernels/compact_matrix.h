#pragma once

#include <ATen/core/Tensor.h>

#include "kernels/isa/kernel_table.h"
#include "kernels/thin_product.h"

/// Matrices in a compact format, and products with them. The products widen the numbers to float32
/// a tile at a time, in a buffer that stays in the cache.
namespace lowrank::kernels {

/// (rows, columns), row after row without gaps; the columns are whole blocks.
struct CompactMatrix {
  const char* bytes = nullptr;
  CompactFormat format = CompactFormat::kBfloat16;
  int64_t rows = 0, columns = 0;

  int64_t row_bytes() const {
    const auto block = block_of(format);
    return columns / block.numbers * block.bytes;
  }
};

/// Writes `count` numbers of a row, from `column` on, as float32; both are whole blocks.
void widen_row(const CompactMatrix& matrix, int64_t row, int64_t column, int64_t count, float* to,
               const KernelTable& kernels = kernel_table());

/// (rows, columns), float32.
at::Tensor widened(const CompactMatrix& matrix);

/// multiply() with the matrix w (depth, columns) in place of product.first.w. The sums of 128 rows
/// of w at a time are added to y one after the other.
void multiply_compact(const ThinProduct& product, const CompactMatrix& w,
                      const KernelTable& kernels = kernel_table());

/// multiply_transposed() with the matrix w (columns, depth) in place of product.first.w. The result
/// is bit for bit that with the widened matrix.
void multiply_compact_transposed(const ThinProduct& product, const CompactMatrix& w,
                                 const KernelTable& kernels = kernel_table());

}  // namespace lowrank::kernels
