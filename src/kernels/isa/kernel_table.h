#pragma once

#include <cstdint>

#include "kernels/isa/instruction_set.h"
#include "kernels/tiles/compact_format.h"
#include "kernels/tiles/operands.h"

/// The kernels, which are compiled from one source (tiles/) once for each instruction set. This
/// table leads to one set of them. The kernels work on raw memory and start no threads.
namespace lowrank::kernels {

struct KernelTable {
  /// Computes these rows and columns of a product; see thin_product.h. The columns begin at a
  /// multiple of kColumnUnit.
  void (*multiply)(const ThinProduct& product, Span rows, Span columns);
  void (*multiply_transposed)(const ThinProduct& product, Span rows, Span columns);
  /// How much of a product is formed at a time where memory is read beside it; see
  /// product_parts.h.
  int64_t part_rows, part_columns;
  /// See adam_step.h.
  void (*adam_step_float)(float* p, const float* g, float* m, float* v, int64_t count,
                          const AdamStep& step);
  void (*adam_step_double)(double* p, const double* g, double* m, double* v, int64_t count,
                           const AdamStep& step);
  /// See add_product.h.
  void (*add_loop)(float* to, const float* from, const float* added, int64_t count,
                   SumLanes& lanes);
  uint32_t (*largest_bits)(const float* x, int64_t count);
  /// See compact_matrix.h.
  void (*widen_loop)(CompactFormat format, const char* from, int64_t count, float* to);
  /// See activation.h.
  void (*where_positive_loop)(float* to, const float* from, const float* by, int64_t count);
};

/// Throws ArgumentError as instruction_set() does.
const KernelTable& kernel_table();

/// The kernels for a set that this machine supports.
const KernelTable& kernel_table(InstructionSet set);

}  // namespace lowrank::kernels
