#pragma once

#include <cstdint>

#include "kernels/kernel_table.h"

/// Products of a few rows with a large matrix, on plain memory of float32: what a layer with
/// factors is made of. The matrix is read once, as it lies, and never packed; the low-rank part is
/// a second term, added up in the same registers. (BLAS libraries are at their best with hundreds
/// of rows, and reach a third to two thirds of that with ten.)
///
/// Each number of the result is added up in an order that depends on its own row and column and on
/// the instruction set alone: results do not depend on the threads, nor a row's on the other rows.
/// Numbers below 1.2e-38 count as zero (flush_denormals.h).
namespace lowrank::kernels {

/// x (rows, depth), each stride in elements, and a matrix w whose rows lie `w_row` apart and are
/// contiguous.
struct ThinTerm {
  const float* x = nullptr;
  int64_t x_row = 0, x_column = 1;
  const float* w = nullptr;
  int64_t w_row = 0;
  int64_t depth = 0;  ///< 0: the term is left out
};

struct ThinProduct {
  ThinTerm first, second = {};
  int64_t rows = 0, columns = 0;
  const float* bias = nullptr;  ///< (columns), or null
  bool accumulate = false;      ///< y += instead of y =
  bool rectify = false;         ///< max(0, y) of all that in place of y, NaN as it is
  float* y = nullptr;           ///< (rows, columns)
  int64_t y_row = 0;
  /// (rows, columns) that is read next: multiply() asks memory for it meanwhile.
  const float* beside = nullptr;
  int64_t beside_row = 0;
};

/// y = x·w (+ x₂·w₂) + bias with w (depth, columns). With u = 2⁻²⁴ each number is within
/// (depth + 2)·u·Σ|x||w| of the exact one, to first order.
void multiply(const ThinProduct& product, const KernelTable& kernels = kernel_table());

/// The same, within the same bound, for a large matrix w that is read once: the upper and the lower
/// half of its rows are multiplied apart and added, so that each of two threads reads a half of w
/// in the order in which it lies, and each number's order of adding up depends on w's sizes alone.
/// Nothing is rectified.
void multiply_halves(const ThinProduct& product, const KernelTable& kernels = kernel_table());

/// y = x·wᵀ (+ x₂·w₂ᵀ) + bias with w (columns, depth); x_column must be 1. Within
/// (depth / lanes + 8)·u·Σ|x||w| with 4, 8 or 16 lanes.
void multiply_transposed(const ThinProduct& product, const KernelTable& kernels = kernel_table());

/// Floats of one line of the cache.
constexpr int64_t kLine = 16;

/// Threads share the columns in units of these.
constexpr int64_t kColumnUnit = 64;
constexpr int64_t kTransposedColumnUnit = 4;

}  // namespace lowrank::kernels
