#pragma once

#include <cstdint>

#include "kernels/tiles/flush_denormals.h"
#include "kernels/tiles/operands.h"
#include "kernels/tiles/product_tiles.h"
#include "kernels/tiles/simd_vector.h"

/// x·wᵀ for many rows: sixteen rows of w at a time are transposed into a panel, along whose rows
/// the sums run, and x is broadcast. All tiles read the panel from a near cache, in whole lines,
/// and none has to add up the lanes of a register at its end.
///
/// A number is added up in the order of add_dots(), so that both forms give the same bits: lane by
/// lane, each lane having every eighth position of the depth, those of the second term after those
/// of the first. So panels and the copy of x are kept lane by lane.
namespace lowrank::kernels::LOWRANK_KERNELS {

/// From this number of rows on, panels are faster than dot products.
inline constexpr int64_t kFewestPanelRows = 16;
/// A panel of this depth takes a megabyte. Deeper products were not measured.
inline constexpr int64_t kDeepestPanel = int64_t{1} << 14;
/// Floats of x that are multiplied by a panel: a megabyte, read from the last-level cache at most.
inline constexpr int64_t kPanelFloats = int64_t{1} << 18;

inline constexpr int64_t kPanelColumns = 16;
inline constexpr int kPanelVectors = static_cast<int>(kPanelColumns / kLanes);
static_assert(kPanelVectors == 2 && kTransposedColumnUnit % kPanelColumns == 0);
/// Rows of a tile: their sums, a row of the panel and a number of x take 15 of 16 registers.
inline constexpr int kPanelRows = 6;

/// How many positions each lane has, of terms with these depths.
struct Lanes {
  int64_t first, second;

  static int64_t count_of(int64_t depth, int64_t lane) {
    return (depth - lane + kLanes - 1) / kLanes;
  }
  int64_t count(int64_t lane) const { return count_of(first, lane) + count_of(second, lane); }
  int64_t depth() const { return first + second; }
};

/// Where each lane of one term begins in memory that has `step` numbers for each depth.
struct LaneStarts {
  float* at[kLanes];

  LaneStarts(float* to, const Lanes& lanes, bool is_second, int64_t step) {
    for (int64_t lane = 0; lane < kLanes; ++lane) {
      at[lane] = to + (is_second ? Lanes::count_of(lanes.first, lane) : 0) * step;
      to += lanes.count(lane) * step;
    }
  }
};

/// Packs kPanelColumns rows of a term's w.
inline void pack_whole_rows(const float* w, int64_t w_row, int64_t depth, const LaneStarts& to) {
  Vector columns[kLanes];
  for (int64_t k = 0; k + kLanes <= depth; k += kLanes) {
    LOWRANK_UNROLLED
    for (int64_t part = 0; part < kPanelVectors; ++part) {
      LOWRANK_UNROLLED
      for (int64_t i = 0; i < kLanes; ++i) {
        columns[i] = load(w + (part * kLanes + i) * w_row + k);
      }
      transpose(columns);
      LOWRANK_UNROLLED
      for (int64_t i = 0; i < kLanes; ++i) {
        store(to.at[i] + k * kPanelVectors + part * kLanes, columns[i]);
      }
    }
  }
}

/// Packs these positions of `count` rows of a term's w, and zeros for the rows that are missing.
inline void pack_rows(const float* w, int64_t w_row, int64_t count, Span depths,
                      const LaneStarts& to) {
  for (int64_t k = depths.begin; k < depths.end; ++k) {
    float* const at = to.at[k % kLanes] + k / kLanes * kPanelColumns;
    for (int64_t i = 0; i < kPanelColumns; ++i) at[i] = i < count ? w[i * w_row + k] : 0;
  }
}

/// Packs the rows of w for `count` (at most kPanelColumns) columns of y, of both terms.
inline void pack_panel(const ThinProduct& product, int64_t column, int64_t count,
                       const Lanes& lanes, float* to) {
  for (const bool is_second : {false, true}) {
    const auto& term = is_second ? product.second : product.first;
    const float* const w = term.w + column * term.w_row;
    const LaneStarts starts(to, lanes, is_second, kPanelColumns);
    const bool is_whole = count == kPanelColumns;
    if (is_whole) pack_whole_rows(w, term.w_row, term.depth, starts);
    const int64_t packed = is_whole ? term.depth / kLanes * kLanes : 0;
    pack_rows(w, term.w_row, count, Span{packed, term.depth}, starts);
  }
}

/// Copies one row of x, of both terms.
inline void sort_row(const ThinProduct& product, int64_t row, const Lanes& lanes, float* to) {
  for (const bool is_second : {false, true}) {
    const auto& term = is_second ? product.second : product.first;
    const float* const x = term.x + row * term.x_row;
    const LaneStarts starts(to, lanes, is_second, 1);
    Vector columns[kLanes];
    int64_t k = 0;
    for (; k + kLanes * kLanes <= term.depth; k += kLanes * kLanes) {
      LOWRANK_UNROLLED
      for (int64_t i = 0; i < kLanes; ++i) columns[i] = load(x + k + i * kLanes);
      transpose(columns);
      LOWRANK_UNROLLED
      for (int64_t i = 0; i < kLanes; ++i) store(starts.at[i] + k / kLanes, columns[i]);
    }
    for (; k < term.depth; ++k) starts.at[k % kLanes][k / kLanes] = x[k];
  }
}

/// Computes R rows and up to V vectors of y. `x` and `panel` are sorted by lane.
template <int R, int V, bool kWhole>
void panel_tile(const ThinProduct& product, int64_t row, int64_t column, Columns<V, kWhole> columns,
                const Lanes& lanes, const float* x, const float* panel, const float* next,
                int64_t step) {
  const int64_t x_row = lanes.depth();
  Vector pairs[kLanes / 2][R][V];  // sums of two lanes each
  for (int64_t lane = 0; lane < kLanes; ++lane) {
    Vector sums[R][V];
    LOWRANK_UNROLLED
    for (auto& of_row : sums) {
      LOWRANK_UNROLLED
      for (auto& sum : of_row) sum = zero();
    }
    const int64_t count = lanes.count(lane);
    LOWRANK_IN_FOURS
    for (int64_t k = 0; k < count; ++k, ++x, panel += kPanelColumns, next += step) {
      prefetch_l2(next, 1);
      Vector of_w[V];
      LOWRANK_UNROLLED
      for (int i = 0; i < V; ++i) of_w[i] = load(panel + i * kLanes);
      LOWRANK_UNROLLED
      for (int r = 0; r < R; ++r) {
        const Vector of_x = all(x[r * x_row]);
        LOWRANK_UNROLLED
        for (int i = 0; i < V; ++i) sums[r][i] = multiply_add(of_x, of_w[i], sums[r][i]);
      }
    }
    LOWRANK_UNROLLED
    for (int r = 0; r < R; ++r) {
      LOWRANK_UNROLLED
      for (int i = 0; i < V; ++i) {
        auto& pair = pairs[lane / 2][r][i];
        pair = lane % 2 == 0 ? sums[r][i] : add(pair, sums[r][i]);
      }
    }
  }
  LOWRANK_UNROLLED
  for (int r = 0; r < R; ++r) {
    float* const y = product.y + (row + r) * product.y_row + column;
    LOWRANK_UNROLLED
    for (int i = 0; i < V; ++i) {
      const Vector sum =
          add(add(pairs[0][r][i], pairs[1][r][i]), add(pairs[2][r][i], pairs[3][r][i]));
      Vector start = product.accumulate ? columns.load_at(y, i) : zero();
      if (product.bias != nullptr) start = add(start, columns.load_at(product.bias + column, i));
      const Vector value = add(start, sum);
      columns.store_at(y, i, product.rectify ? rectified(value) : value);
    }
  }
}

/// Multiplies the rows of `x`, sorted by lane, by one panel.
inline void multiply_panel(const ThinProduct& product, Span rows, int64_t column, int64_t count,
                           const Lanes& lanes, const float* x, const float* panel) {
  const int64_t tiles = (rows.end - rows.begin + kPanelRows - 1) / kPanelRows;
  int64_t row = rows.begin;
  // At each position, a tile prefetches the next `step` numbers of the rows of the next panel,
  // until all tiles together have gone over them. This assumes that the rows have no gaps.
  const int64_t step = (kLine + tiles - 1) / tiles, share = step * lanes.depth();
  const float* next = product.first.w + (column + kPanelColumns) * product.first.w_row;
  const float* const end = next + kPanelColumns * product.first.depth;
  for (int64_t left = tiles; left > 0; --left, next += share) {
    const float* const from = next < end ? next : panel;
    const int64_t size = (rows.end - row + left - 1) / left;  // of about equal size
    const float* const of_tile = x + (row - rows.begin) * lanes.depth();
    with_rows<kPanelRows>(size, [&]<int R>() {
      if (count == kPanelColumns) {
        panel_tile<R, 2, true>(product, row, column, {kLanes}, lanes, of_tile, panel, from, step);
      } else if (count > kLanes) {
        panel_tile<R, 2, false>(product, row, column, {count - kLanes}, lanes, of_tile, panel, from,
                                step);
      } else {
        panel_tile<R, 1, false>(product, row, column, {count}, lanes, of_tile, panel, from, step);
      }
    });
    row += size;
  }
}

inline void multiply_by_panels(const ThinProduct& product, Span rows, Span columns) {
  const FlushDenormals flush;
  const Lanes lanes = {product.first.depth, product.second.depth};
  const int64_t count = rows.end - rows.begin;
  const int64_t most = kPanelFloats / lanes.depth() + 1;
  const int64_t parts = (count + most - 1) / most;
  const int64_t largest = (count + parts - 1) / parts;
  float* const panel = scratch(lanes.depth() + (largest * lanes.depth() + kLine - 1) / kLine);
  float* const x = panel + lanes.depth() * kPanelColumns;
  for (int64_t i = 0; i < parts; ++i) {  // of about equal size
    const Span part = {rows.begin + count * i / parts, rows.begin + count * (i + 1) / parts};
    for (int64_t row = part.begin; row < part.end; ++row) {
      sort_row(product, row, lanes, x + (row - part.begin) * lanes.depth());
    }
    for (int64_t column = columns.begin; column < columns.end; column += kPanelColumns) {
      const int64_t size = least(kPanelColumns, columns.end - column);
      pack_panel(product, column, size, lanes, panel);
      multiply_panel(product, part, column, size, lanes, x, panel);
    }
  }
}

/// By panels where they are faster, otherwise by dot products.
inline void multiply_panels_span(const ThinProduct& product, Span rows, Span columns) {
  const int64_t depth = product.first.depth + product.second.depth;
  const bool pays = rows.end - rows.begin >= kFewestPanelRows &&
                    columns.end - columns.begin >= kPanelColumns && depth >= kLanes &&
                    depth <= kDeepestPanel;
  if (pays) return multiply_by_panels(product, rows, columns);
  multiply_transposed_span(product, rows, columns);
}

}  // namespace lowrank::kernels::LOWRANK_KERNELS
