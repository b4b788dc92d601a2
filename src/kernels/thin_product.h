#pragma once

#include <cstdint>

#include "kernels/isa/kernel_table.h"

/// Products of a few rows with a large matrix, on raw float32 memory: a layer with factors consists
/// of these. The matrix is read in place, once; of many rows with AVX2, it is copied into panels
/// (panel_tiles.h, packed_tiles.h). The low-rank part is a second term, summed up in the same
/// registers. (BLAS libraries are at their best with hundreds of rows; with ten rows they reach a
/// third to two thirds of that speed.)
///
/// The order in which a number of the result is summed up depends only on its own row and column
/// and on the instruction set. So the results do not depend on the number of threads, and a row's
/// result does not depend on the other rows. Numbers below 1.2e-38 count as zero
/// (flush_denormals.h).
namespace lowrank::kernels {

/// y = x·w (+ x₂·w₂) + bias with w (depth, columns). With u = 2⁻²⁴, each number is within (depth +
/// 2)·u·Σ|x||w| of the exact one, to first order.
void multiply(const ThinProduct& product, const KernelTable& kernels = kernel_table());

/// y = x·wᵀ (+ x₂·w₂ᵀ) + bias with w (columns, depth); x_column must be 1. Within
/// (depth / lanes + 8)·u·Σ|x||w| with 4, 8 or 16 lanes.
void multiply_transposed(const ThinProduct& product, const KernelTable& kernels = kernel_table());

}  // namespace lowrank::kernels
