#pragma once

#include <cstdint>

#include "kernels/isa/kernel_table.h"

/// Products of a few rows with a large matrix, on plain memory of float32: what a layer with
/// factors is made of. The matrix is read once, as it lies, and never packed; the low-rank part is
/// a second term, added up in the same registers. (BLAS libraries are at their best with hundreds
/// of rows, and reach a third to two thirds of that with ten.)
///
/// Each number of the result is added up in an order that depends on its own row and column and on
/// the instruction set alone: results do not depend on the threads, nor a row's on the other rows.
/// Numbers below 1.2e-38 count as zero (flush_denormals.h).
namespace lowrank::kernels {

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

}  // namespace lowrank::kernels
