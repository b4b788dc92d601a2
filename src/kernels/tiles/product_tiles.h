#pragma once

#include <cstdint>
#include <limits>
#include <vector>

#include "kernels/tiles/flush_denormals.h"
#include "kernels/tiles/operands.h"
#include "kernels/tiles/simd_vector.h"

/// Products, tile by tile: the sums of R rows and V vectors (or columns) stay in registers through
/// the loop over the depth. A number's sum does not depend on the tile that it falls into.
namespace lowrank::kernels::LOWRANK_KERNELS {

inline constexpr int64_t kLanes = Vector::kLanes;

/// The most rows of a tile: R·V sums, R operands and one more must fit into the registers.
template <int V>
constexpr int kMostRows = Vector::kRegisters == 32 ? 6 : (V == 4 ? 3 : 5);

/// Floats of x that should stay in the second-level cache (half a megabyte) while w streams
/// through.
inline constexpr int64_t kNearFloats = int64_t{1} << 17;
/// Rows of w that are read at a time: a column of tiles of this depth stays in the first-level
/// cache.
inline constexpr int64_t kDepthBlock = 128;
/// How many tiles ahead w is prefetched: a tile's row of w ends before the hardware prefetcher has
/// noticed that it is read sequentially.
inline constexpr int64_t kTilesAhead = 2;

/// What one tile prefetches at each step: `lines` cache lines of the next part of w, from line
/// `first` on. The tiles that read the same part of w share this work, so that memory is never
/// idle.
struct Ahead {
  int64_t first, lines;
};

/// Prefetches `lines` cache lines. Addresses beyond the end of w do no harm.
LOWRANK_INLINE void prefetch_l2(const float* from, int64_t lines) {
  for (int64_t i = 0; i < lines; ++i) __builtin_prefetch(from + i * kLine, 0, /*locality=*/2);
}

/// How many lines ahead w is prefetched from the second-level cache to the first.
inline constexpr int64_t kLinesNear = 3;
LOWRANK_INLINE void prefetch_l1(const float* from) { __builtin_prefetch(from, 0, /*locality=*/3); }

LOWRANK_INLINE int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

/// Calls f with the number of rows as a constant.
template <int R, class F>
LOWRANK_INLINE void with_rows(int64_t rows, const F& f) {
  if (rows == R) return f.template operator()<R>();
  if constexpr (R > 1) with_rows<R - 1>(rows, f);
}

/// Calls f with the number of lines, a power of two or zero, as a constant: a loop over a variable
/// number costs a tenth more.
template <int kLines, class F>
LOWRANK_INLINE void with_lines(int64_t lines, const F& f) {
  if (lines == kLines) return f.template operator()<kLines>();
  if constexpr (kLines > 0) with_lines<kLines / 2>(lines, f);
}

/// Divides the rows evenly among as few tiles as possible, and the prefetching of the next `lines`
/// as well.
template <int V, class F>
LOWRANK_INLINE void for_row_tiles(Span rows, int64_t lines, const F& f) {
  const int64_t tiles = (rows.end - rows.begin + kMostRows<V> - 1) / kMostRows<V>;
  int64_t row = rows.begin;
  for (int64_t i = 0; i < tiles; ++i) {
    const int64_t left = tiles - i, count = (rows.end - row + left - 1) / left;
    const int64_t first = lines * i / tiles;
    const Ahead ahead = {first, lines * (i + 1) / tiles - first};
    with_rows<kMostRows<V>>(count, [&]<int R>() { f.template operator()<R>(row, ahead); });
    row += count;
  }
}

/// Columns of x·wᵀ in one tile. All rows of the tile read each of them, and x comes from a slower
/// cache.
inline constexpr int kDots = 4;
static_assert(kTransposedColumnUnit % kDots == 0);

/// sums[r][i] += x[row + r] · w[i], lane by lane, over the term's whole depth.
template <int R, int kAsked>
LOWRANK_INLINE void add_dots(Vector (&sums)[R][kDots], const ThinTerm& term, int64_t row,
                             const int64_t (&columns)[kDots], const float* next) {
  const float* const x = term.x + row * term.x_row;
  const float* w[kDots];
  LOWRANK_UNROLLED
  for (int i = 0; i < kDots; ++i) w[i] = term.w + columns[i] * term.w_row;
  const auto add = [&](int64_t k, const auto&... count) {
    Vector of_x[R];
    LOWRANK_UNROLLED
    for (int r = 0; r < R; ++r) of_x[r] = load(x + r * term.x_row + k, count...);
    if (k % kLine == 0) {
      prefetch_l2(next + k * kAsked, kAsked);
      LOWRANK_UNROLLED
      for (const float* const from : w) prefetch_l1(from + k + kLinesNear * kLine);
    }
    LOWRANK_UNROLLED
    for (int i = 0; i < kDots; ++i) {
      const Vector of_w = load(w[i] + k, count...);
      LOWRANK_UNROLLED
      for (int r = 0; r < R; ++r) sums[r][i] = multiply_add(of_x[r], of_w, sums[r][i]);
    }
  };
  int64_t k = 0;
  for (; k + kLanes <= term.depth; k += kLanes) add(k);
  if (k < term.depth) add(k, term.depth - k);
}

/// Computes one tile. Columns beyond the last one repeat it and are not stored. The tile prefetches
/// what is `distance` columns further.
template <int R>
void transposed_tile(const ThinProduct& product, int64_t row, int64_t column, int64_t end,
                     const Ahead& ahead, int64_t distance) {
  const int64_t count = least(kDots, end - column);
  int64_t columns[kDots];
  LOWRANK_UNROLLED
  for (int i = 0; i < kDots; ++i) columns[i] = column + least(i, count - 1);
  Vector lanes[R][kDots];
  LOWRANK_UNROLLED
  for (auto& of_row : lanes) {
    LOWRANK_UNROLLED
    for (auto& lane : of_row) lane = zero();
  }
  const auto& term = product.first;
  // This assumes that the rows of w have no gaps, so that a tile's share of the next ones is in one
  // piece.
  const float* const next = term.w + (column + distance) * term.w_row + ahead.first * term.depth;
  with_lines<kDots>(ahead.lines,
                    [&]<int kAsked>() { add_dots<R, kAsked>(lanes, term, row, columns, next); });
  add_dots<R, 0>(lanes, product.second, row, columns, nullptr);
  const float least_value = product.rectify ? 0 : -std::numeric_limits<float>::infinity();
  LOWRANK_UNROLLED
  for (int r = 0; r < R; ++r) {
    float sum[kDots];
    sums(lanes[r], sum);
    float* const y = product.y + (row + r) * product.y_row + column;
    const auto put = [&](int64_t size) {
      for (int64_t i = 0; i < size; ++i) {
        const float bias = product.bias != nullptr ? product.bias[column + i] : 0;
        const float value = (product.accumulate ? y[i] + bias : bias) + sum[i];
        y[i] = value < least_value ? least_value : value;
      }
    };
    count == kDots ? put(kDots) : put(count);  // a constant size is stored at once
  }
}

/// Floats of x that stay in the first-level cache.
inline constexpr int64_t kNearestFloats = int64_t{1} << 13;
inline constexpr int64_t kMostBlockColumns = 64;

/// The number of columns that each tile of rows goes through before the next tile does. It is small
/// if all of x stays in the first-level cache, so that the columns of w stay there too. Otherwise a
/// tile of x stays there, and these columns of w stay in the second-level cache.
inline int64_t column_block(int64_t rows, int64_t depth) {
  if (rows * depth <= kNearestFloats) return kDots;
  const int64_t most = kNearFloats / 2 / depth / kDots * kDots;
  return most < kDots ? kDots : least(most, kMostBlockColumns);
}

/// With at least this many rows and columns it pays to copy x so that its rows begin at cache
/// lines: a vector that lies across two lines is read twice, and x is read again for every few
/// columns.
inline constexpr int64_t kCopiedRows = 16, kCopyingColumns = 128;

struct alignas(kLine * sizeof(float)) Line {
  float numbers[kLine];
};

/// Memory of `lines` cache lines that belongs to this thread and is kept for its next call (at most
/// about two megabytes, see kNearFloats and kPanelFloats). Its old contents are lost.
inline float* scratch(int64_t lines) {
  thread_local std::vector<Line> memory;
  if (memory.size() < static_cast<size_t>(lines)) memory = std::vector<Line>(lines);
  return memory.front().numbers;
}

/// The term with x copied so that its rows begin at cache lines and are an odd number of lines
/// apart: then the numbers of one column do not compete for the same place in the cache.
inline ThinTerm with_lines_of_x(ThinTerm term, int64_t rows) {
  const int64_t lines = (term.depth + kLine - 1) / kLine | 1;
  float* const copy = scratch(rows * lines);
  for (int64_t row = 0; row < rows; ++row) {
    const float* const from = term.x + row * term.x_row;
    float* const to = copy + row * lines * kLine;
    int64_t k = 0;
    for (; k + kLanes <= term.depth; k += kLanes) store(to + k, load(from + k));
    if (k < term.depth) store(to + k, load(from + k, term.depth - k), term.depth - k);
  }
  term.x = copy;
  term.x_row = lines * kLine;
  return term;
}

inline bool begin_lines(const float* from, int64_t row) {
  return reinterpret_cast<uintptr_t>(from) % sizeof(Line) == 0 && row % kLine == 0;
}

inline ThinProduct rows_from(ThinProduct product, int64_t row) {
  product.first.x += row * product.first.x_row;
  product.second.x += row * product.second.x_row;
  product.y += row * product.y_row;
  return product;
}

inline void multiply_transposed_rows(const ThinProduct& product, int64_t rows, Span columns,
                                     int64_t block) {
  for (int64_t first = columns.begin; first < columns.end; first += block) {
    const int64_t end = least(first + block, columns.end);
    for_row_tiles<kDots>(Span{0, rows}, kDots, [&]<int R>(int64_t row, const Ahead& ahead) {
      for (int64_t column = first; column < end; column += kDots) {
        transposed_tile<R>(product, row, column, end, ahead, block);
      }
    });
  }
}

inline void multiply_transposed_span(const ThinProduct& product, Span rows, Span columns) {
  const FlushDenormals flush;
  const int64_t count = rows.end - rows.begin;
  const int64_t depth = product.first.depth > 0 ? product.first.depth : 1;
  const int64_t near = kNearFloats / depth;
  const bool stays_near = near > kMostRows<kDots>;
  const int64_t most = stays_near ? near : kMostRows<kDots>;
  const int64_t parts = (count + most - 1) / most;
  const bool copies = stays_near && depth >= kLine && count >= kCopiedRows &&
                      columns.end - columns.begin >= kCopyingColumns &&
                      !begin_lines(product.first.x, product.first.x_row);
  const int64_t block = column_block(count, depth);
  for (int64_t i = 0; i < parts; ++i) {  // parts of about equal size
    const int64_t begin = count * i / parts, size = count * (i + 1) / parts - begin;
    auto part = rows_from(product, rows.begin + begin);
    if (copies) part.first = with_lines_of_x(part.first, size);
    multiply_transposed_rows(part, size, columns, block);
  }
}

/// A tile's V vectors of columns; the last one may have unused lanes.
template <int V, bool kWhole>
struct Columns {
  static constexpr int kFull = kWhole ? V : V - 1;
  int64_t last;  // used lanes of the last vector; kLanes if kWhole

  LOWRANK_INLINE Vector load_at(const float* from, int i) const {
    if (i < kFull) return load(from + i * kLanes);
    return load(from + i * kLanes, last);
  }
  LOWRANK_INLINE void store_at(float* to, int i, Vector v) const {
    if (i < kFull) return store(to + i * kLanes, v);
    store(to + i * kLanes, v, last);
  }
};

/// sums[r] += x[row + r][k] · w[k] for the depths k in `span`.
template <int R, int V, bool kWhole>
LOWRANK_INLINE void add_rows(Vector (&sums)[R][V], const ThinTerm& term, int64_t row,
                             int64_t column, Span span, Columns<V, kWhole> columns,
                             const Ahead& ahead) {
  const float* const x = term.x + row * term.x_row;
  for (int64_t k = span.begin; k < span.end; ++k) {
    const float* const w = term.w + k * term.w_row + column;
    Vector of_x[R];
    LOWRANK_UNROLLED
    for (int r = 0; r < R; ++r) of_x[r] = all(x[r * term.x_row + k * term.x_column]);
    prefetch_l2(w + kTilesAhead * V * kLanes + ahead.first * kLine, ahead.lines);
    LOWRANK_UNROLLED
    for (int i = 0; i < V; ++i) {
      const Vector of_w = columns.load_at(w, i);
      LOWRANK_UNROLLED
      for (int r = 0; r < R; ++r) sums[r][i] = multiply_add(of_x[r], of_w, sums[r][i]);
    }
  }
}

/// Cache lines that V vectors take up.
template <int V>
constexpr int64_t kLines = (V * kLanes + kLine - 1) / kLine;

/// Adds the depths in `span` to up to V vectors of x·w, and the second term together with the last
/// span, which begins at 0.
template <int R, int V, bool kWhole>
void tile(const ThinProduct& product, int64_t row, int64_t column, Span span,
          Columns<V, kWhole> columns, const Ahead& ahead) {
  const bool begins = span.end == product.first.depth;
  if (begins && product.beside != nullptr) {
    for (int r = 0; r < R; ++r) {
      prefetch_l2(product.beside + (row + r) * product.beside_row + column, kLines<V>);
    }
  }
  Vector sums[R][V];
  LOWRANK_UNROLLED
  for (int r = 0; r < R; ++r) {
    const float* const y = product.y + (row + r) * product.y_row + column;
    LOWRANK_UNROLLED
    for (int i = 0; i < V; ++i) {
      sums[r][i] = begins && !product.accumulate ? zero() : columns.load_at(y, i);
      if (begins && product.bias != nullptr) {
        sums[r][i] = multiply_add(all(1), columns.load_at(product.bias + column, i), sums[r][i]);
      }
    }
  }
  add_rows<R, V>(sums, product.first, row, column, span, columns, ahead);
  if (span.begin == 0) {
    add_rows<R, V>(sums, product.second, row, column, Span{0, product.second.depth}, columns, {});
  }
  const bool rectifies = span.begin == 0 && product.rectify;
  LOWRANK_UNROLLED
  for (int r = 0; r < R; ++r) {
    float* const y = product.y + (row + r) * product.y_row + column;
    LOWRANK_UNROLLED
    for (int i = 0; i < V; ++i) {
      columns.store_at(y, i, rectifies ? rectified(sums[r][i]) : sums[r][i]);
    }
  }
}

/// One column of tiles, V vectors wide, or only as wide as the remaining columns need.
template <int V, int N = V>
void column_of_tiles(const ThinProduct& product, Span rows, int64_t column, int64_t count,
                     Span span) {
  if constexpr (N > 1) {
    if (count <= (N - 1) * kLanes) {
      return column_of_tiles<V, N - 1>(product, rows, column, count, span);
    }
  }
  const int64_t last = count - (N - 1) * kLanes;
  for_row_tiles<V>(rows, kLines<V>, [&]<int R>(int64_t row, const Ahead& ahead) {
    if (last >= kLanes) {
      tile<R, N, true>(product, row, column, span, {kLanes}, ahead);
    } else {
      tile<R, N, false>(product, row, column, span, {last}, ahead);
    }
  });
}

template <int V>
void multiply_block(const ThinProduct& product, Span rows, Span columns, Span span) {
  for (int64_t column = columns.begin; column < columns.end; column += V * kLanes) {
    column_of_tiles<V>(product, rows, column, columns.end - column, span);
  }
}

template <int V>
void multiply_by(const ThinProduct& product, Span rows, Span columns) {
  const int64_t depth = product.first.depth;
  // If the depth fits into one block, y is written row by row. Otherwise w is read once for all
  // rows.
  const int64_t most = depth <= kDepthBlock ? kMostRows<V> : rows.end - rows.begin;
  for (int64_t row = rows.begin; row < rows.end; row += most) {
    const Span some = {row, least(row + most, rows.end)};
    // From the end, because the forward pass has left a weight's last rows in the caches.
    int64_t end = depth;
    do {
      const int64_t begin = end > 0 ? (end - 1) / kDepthBlock * kDepthBlock : 0;
      multiply_block<V>(product, some, columns, Span{begin, end});
      end = begin;
    } while (end > 0);
  }
}

/// With sixteen registers, the sums of more than a few rows fit only in narrower tiles.
inline void multiply_span(const ThinProduct& product, Span rows, Span columns) {
  const FlushDenormals flush;
  if constexpr (Vector::kRegisters == 16) {
    if (rows.end - rows.begin > kMostRows<4>) return multiply_by<2>(product, rows, columns);
  }
  multiply_by<4>(product, rows, columns);
}

}  // namespace lowrank::kernels::LOWRANK_KERNELS
