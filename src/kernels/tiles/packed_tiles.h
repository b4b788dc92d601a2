#pragma once

#include <cstdint>
#include <utility>

#include "kernels/tiles/flush_denormals.h"
#include "kernels/tiles/operands.h"
#include "kernels/tiles/product_tiles.h"
#include "kernels/tiles/simd_vector.h"

/// x·w for many rows. Rows of w that are a power of two apart compete for the same places in the
/// caches, and each lies in a page of its own. So w is copied part by part (kPackedDepth rows by
/// kPackedColumns columns) into panels of two vectors, each of which stays in the first-level cache
/// while all tiles of rows go over it. The next part is copied meanwhile. x is copied as well, tile
/// by tile.
///
/// A number is added up in the order of multiply_by(), so that both forms give the same bits.
namespace lowrank::kernels::LOWRANK_KERNELS {

/// From this number of rows on, packing pays.
inline constexpr int64_t kFewestPackedRows = 12;
/// The depth of a part, a multiple of kDepthBlock: a panel of it takes half of the first-level
/// cache.
inline constexpr int64_t kPackedDepth = 2 * kDepthBlock;
/// The columns of a part: two parts take half of the second-level cache.
inline constexpr int64_t kPackedColumns = 128;
inline constexpr int kPackedVectors = 2;
inline constexpr int64_t kPackedWidth = kPackedVectors * kLanes;
/// Rows of a tile: their sums, a row of the panel and a number of x take 15 of 16 registers.
inline constexpr int kPackedRows = 6;
/// The most rows of x that are copied at a time: half a megabyte.
inline constexpr int64_t kMostPackedRows = 512;

/// Copies the depths in `span` of R rows of x, depth by depth.
template <int R>
void pack_x(const ThinTerm& term, int64_t row, Span span, float* to) {
  const float* const x = term.x + row * term.x_row;
  for (int64_t k = span.begin; k < span.end; ++k) {
    for (int r = 0; r < R; ++r) *to++ = x[r * term.x_row + k * term.x_column];
  }
}

/// A part of w: these depths, and up to kPackedColumns columns.
struct PackedPart {
  Span span;
  int64_t column, count;

  int64_t depth() const { return span.end - span.begin; }
  /// The depths of the part, counted from 0, that belong to the i-th of n steps.
  Span share(int64_t i, int64_t n) const { return {depth() * i / n, depth() * (i + 1) / n}; }
};

inline const float* part_of(const ThinTerm& term, const PackedPart& part, int64_t depth) {
  return term.w + (part.span.begin + depth) * term.w_row + part.column;
}

inline void prefetch_part(const ThinTerm& term, const PackedPart& part, Span depths) {
  for (int64_t k = depths.begin; k < depths.end; ++k) {
    prefetch_l2(part_of(term, part, k), kPackedColumns / kLine);
  }
}

/// Copies these depths of a part into its panels, and zeros for the columns that are missing.
inline void pack_part(const ThinTerm& term, const PackedPart& part, Span depths, float* panels) {
  const int64_t whole = part.count / kPackedWidth;
  for (int64_t k = depths.begin; k < depths.end; ++k) {
    const float* const from = part_of(term, part, k);
    float* to = panels + k * kPackedWidth;
    for (int64_t i = 0; i < whole; ++i, to += part.depth() * kPackedWidth) {
      LOWRANK_UNROLLED
      for (int v = 0; v < kPackedVectors; ++v) {
        store(to + v * kLanes, load(from + i * kPackedWidth + v * kLanes));
      }
    }
    if (whole * kPackedWidth == part.count) continue;
    for (int64_t i = 0; i < kPackedWidth; ++i) {
      const int64_t column = whole * kPackedWidth + i;
      to[i] = column < part.count ? from[column] : 0;
    }
  }
}

/// sums[r] += x[r][k] · panel[k], block by block, the last block first.
template <int R, int V>
LOWRANK_INLINE void add_packed(Vector (&sums)[R][V], const float* x, const float* panel,
                               int64_t depth) {
  int64_t end = depth;
  do {
    const int64_t begin = end > 0 ? (end - 1) / kDepthBlock * kDepthBlock : 0;
    LOWRANK_IN_FOURS
    for (int64_t k = begin; k < end; ++k) {
      Vector of_w[V];
      LOWRANK_UNROLLED
      for (int i = 0; i < V; ++i) of_w[i] = load(panel + k * kPackedWidth + i * kLanes);
      LOWRANK_UNROLLED
      for (int r = 0; r < R; ++r) {
        const Vector of_x = all(x[k * R + r]);
        LOWRANK_UNROLLED
        for (int i = 0; i < V; ++i) sums[r][i] = multiply_add(of_x, of_w[i], sums[r][i]);
      }
    }
    end = begin;
  } while (end > 0);
}

/// Adds the depths of a part to R rows and up to V vectors of y, as tile() does. `x` is packed.
template <int R, int V, bool kWhole>
void packed_tile(const ThinProduct& product, int64_t row, int64_t column,
                 Columns<V, kWhole> columns, Span span, const float* x, const float* panel) {
  const bool begins = span.end == product.first.depth;
  for (int r = R; r < 2 * R; ++r) {  // for the next tile
    const float* const y = product.y + (row + r) * product.y_row + column;
    prefetch_l1(y);
    prefetch_l1(y + V * kLanes - 1);
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
  add_packed<R, V>(sums, x, panel, span.end - span.begin);
  const bool ends = span.begin == 0;
  if (ends) {
    add_rows<R, V>(sums, product.second, row, column, Span{0, product.second.depth}, columns, {});
  }
  LOWRANK_UNROLLED
  for (int r = 0; r < R; ++r) {
    float* const y = product.y + (row + r) * product.y_row + column;
    LOWRANK_UNROLLED
    for (int i = 0; i < V; ++i) {
      columns.store_at(y, i, ends && product.rectify ? rectified(sums[r][i]) : sums[r][i]);
    }
  }
}

/// Calls f<R>(row, x) for each tile of R rows, with its place in the packed x.
template <class X, class F>
LOWRANK_INLINE void for_packed_rows(Span rows, int64_t depth, X* x, const F& f) {
  const int64_t tiles = (rows.end - rows.begin + kPackedRows - 1) / kPackedRows;
  int64_t row = rows.begin;
  for (int64_t left = tiles; left > 0; --left) {
    const int64_t size = (rows.end - row + left - 1) / left;  // of about equal size
    with_rows<kPackedRows>(size, [&]<int R>() { f.template operator()<R>(row, x); });
    x += size * depth;
    row += size;
  }
}

/// Multiplies packed rows of x by the panels of a part, and copies the next part meanwhile: each
/// tile's share of it, which was prefetched one tile before.
inline void multiply_part(const ThinProduct& product, Span rows, const PackedPart& part,
                          const float* x, const float* panels, const PackedPart& next,
                          float* next_panels) {
  const int64_t tiles = (rows.end - rows.begin + kPackedRows - 1) / kPackedRows;
  const int64_t steps = tiles * ((part.count + kPackedWidth - 1) / kPackedWidth);
  int64_t step = 0;
  prefetch_part(product.first, next, next.share(0, steps));
  for (int64_t i = 0; i < part.count; i += kPackedWidth) {
    const int64_t column = part.column + i, left = part.count - i;
    const float* const panel = panels + i * part.depth();
    for_packed_rows(rows, part.depth(), x, [&]<int R>(int64_t row, const float* of_tile) {
      prefetch_part(product.first, next, next.share(step + 1, steps));
      pack_part(product.first, next, next.share(step, steps), next_panels);
      ++step;
      if (left >= kPackedWidth) {
        packed_tile<R, 2, true>(product, row, column, {kLanes}, part.span, of_tile, panel);
      } else if (left > kLanes) {
        packed_tile<R, 2, false>(product, row, column, {left - kLanes}, part.span, of_tile, panel);
      } else {
        packed_tile<R, 1, false>(product, row, column, {left}, part.span, of_tile, panel);
      }
    });
  }
}

/// Returns the part after this one: the next columns, or the depths before. The last part is
/// followed by an empty one.
inline PackedPart part_after(const PackedPart& part, Span columns) {
  if (const int64_t column = part.column + part.count; column < columns.end) {
    return {part.span, column, least(kPackedColumns, columns.end - column)};
  }
  const int64_t end = part.span.begin;
  const int64_t begin = end > 0 ? (end - 1) / kPackedDepth * kPackedDepth : 0;
  return {{begin, end}, columns.begin, least(kPackedColumns, columns.end - columns.begin)};
}

inline void multiply_packed_rows(const ThinProduct& product, Span rows, Span columns) {
  constexpr int64_t kPanels = kPackedDepth * kPackedColumns;
  const int64_t count = rows.end - rows.begin;
  float* panels = scratch((2 * kPanels + count * kPackedDepth) / kLine + 1);
  float* next_panels = panels + kPanels;
  float* const x = next_panels + kPanels;
  // From the end, as multiply_by() does.
  const auto& term = product.first;
  PackedPart part = part_after({{term.depth, term.depth}, columns.end, 0}, columns);
  pack_part(term, part, part.share(0, 1), panels);
  while (part.depth() > 0) {
    if (part.column == columns.begin) {
      for_packed_rows(rows, part.depth(), x, [&]<int R>(int64_t row, float* of_tile) {
        pack_x<R>(term, row, part.span, of_tile);
      });
    }
    const PackedPart next = part_after(part, columns);
    multiply_part(product, rows, part, x, panels, next, next_panels);
    part = next;
    std::swap(panels, next_panels);
  }
}

/// By packed panels where they are faster, otherwise with w where it lies.
inline void multiply_packed_span(const ThinProduct& product, Span rows, Span columns) {
  const int64_t count = rows.end - rows.begin;
  const bool pays = count >= kFewestPackedRows && product.first.depth >= kDepthBlock &&
                    columns.end - columns.begin >= kPackedColumns;
  if (!pays) return multiply_span(product, rows, columns);
  const FlushDenormals flush;
  const int64_t parts = (count + kMostPackedRows - 1) / kMostPackedRows;
  for (int64_t i = 0; i < parts; ++i) {  // of about equal size
    multiply_packed_rows(product,
                         Span{rows.begin + count * i / parts, rows.begin + count * (i + 1) / parts},
                         columns);
  }
}

}  // namespace lowrank::kernels::LOWRANK_KERNELS
