#include "kernels/compact_matrix.h"

#include <ATen/ATen.h>
#include <ATen/EmptyTensor.h>

#include <algorithm>
#include <memory>

#include "kernels/product_sharing.h"

namespace lowrank::kernels {
namespace {

/// The sizes of a tile, in numbers: it has to stay in a core's own cache.
constexpr int64_t kTileNumbers = int64_t{1} << 15;
constexpr int64_t kTileRows = 128, kTileColumns = kTileNumbers / kTileRows;

/// Memory for a tile of this thread.
float* tile_buffer(int64_t numbers) {
  thread_local std::unique_ptr<float[]> buffer;
  thread_local int64_t size = 0;
  if (size < numbers) {
    buffer.reset(new float[static_cast<size_t>(numbers)]);
    size = numbers;
  }
  return buffer.get();
}

/// The product for some of its columns, without its w.
ThinProduct of_columns(const ThinProduct& product, int64_t begin, int64_t count, bool transposed) {
  ThinProduct part = product;
  part.columns = count;
  part.y += begin;
  if (part.bias != nullptr) part.bias += begin;
  part.second.w += transposed ? begin * part.second.w_row : begin;
  return part;
}

/// y = x·W for these rows and columns, tile by tile.
void multiply_tiles(const ThinProduct& product, const CompactMatrix& w, Span rows, Span columns,
                    const KernelTable& kernels) {
  const auto depth = product.first.depth;
  float* const tile = tile_buffer(kTileNumbers);
  for (int64_t begin = columns.begin; begin < columns.end; begin += kTileColumns) {
    const auto count = std::min(kTileColumns, columns.end - begin);
    const auto whole = of_columns(product, begin, count, /*transposed=*/false);
    for (int64_t k = 0; k < depth; k += kTileRows) {
      const auto many = std::min(kTileRows, depth - k);
      for (int64_t i = 0; i < many; ++i) {
        widen_row(w, k + i, begin, count, tile + i * count, kernels);
      }
      ThinProduct part = whole;
      part.first.x += k * part.first.x_column;
      part.first.w = tile;
      part.first.w_row = count;
      part.first.depth = many;
      if (k > 0) {
        part.second = {};
        part.bias = nullptr;
        part.accumulate = true;
      }
      part.rectify = product.rectify && k + many == depth;
      kernels.multiply(part, rows, Span{0, count});
    }
  }
}

/// y = x·Wᵀ for these rows and columns, tile by tile.
void multiply_tiles_transposed(const ThinProduct& product, const CompactMatrix& w, Span rows,
                               Span columns, int64_t tile_rows, const KernelTable& kernels) {
  const auto depth = product.first.depth;
  float* const tile = tile_buffer(tile_rows * depth);
  for (int64_t begin = columns.begin; begin < columns.end; begin += tile_rows) {
    const auto count = std::min(tile_rows, columns.end - begin);
    for (int64_t i = 0; i < count; ++i) {
      widen_row(w, begin + i, 0, depth, tile + i * depth, kernels);
    }
    auto part = of_columns(product, begin, count, /*transposed=*/true);
    part.first.w = tile;
    part.first.w_row = depth;
    kernels.multiply_transposed(part, rows, Span{0, count});
  }
}

}  // namespace

void widen_row(const CompactMatrix& matrix, int64_t row, int64_t column, int64_t count, float* to,
               const KernelTable& kernels) {
  const auto block = block_of(matrix.format);
  const char* const from =
      matrix.bytes + row * matrix.row_bytes() + column / block.numbers * block.bytes;
  kernels.widen_loop(matrix.format, from, count, to);
}

at::Tensor widened(const CompactMatrix& matrix) {
  auto dense = at::Tensor(at::detail::empty_cpu({matrix.rows, matrix.columns}, at::kFloat));
  float* const to = dense.data_ptr<float>();
  const auto& kernels = kernel_table();
  const auto grain = std::max<int64_t>(1, kTileNumbers / std::max<int64_t>(1, matrix.columns));
  parallel_for(0, matrix.rows, grain, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      widen_row(matrix, row, 0, matrix.columns, to + row * matrix.columns, kernels);
    }
  });
  return dense;
}

void multiply_compact(const ThinProduct& product, const CompactMatrix& w,
                      const KernelTable& kernels) {
  if (product.rows == 0 || product.columns == 0) return;
  if (product.first.depth == 0) return multiply(product, kernels);
  const Parts parts(product, kColumnUnit, threads_for(product));
  for_each(parts.count(), [&](int64_t i) {
    multiply_tiles(product, w, parts.rows(i), parts.columns(i), kernels);
  });
}

void multiply_compact_transposed(const ThinProduct& product, const CompactMatrix& w,
                                 const KernelTable& kernels) {
  if (product.rows == 0 || product.columns == 0) return;
  const auto depth = std::max<int64_t>(1, product.first.depth);
  const auto tile_rows =
      std::clamp<int64_t>(kTileNumbers / depth / kTransposedColumnUnit * kTransposedColumnUnit,
                          kTransposedColumnUnit, kTileRows);
  const Parts parts(product, tile_rows, threads_for(product));
  for_each(parts.count(), [&](int64_t i) {
    multiply_tiles_transposed(product, w, parts.rows(i), parts.columns(i), tile_rows, kernels);
  });
}

}  // namespace lowrank::kernels
