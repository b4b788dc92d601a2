#pragma once

#include <ATen/core/Tensor.h>

#include "effective/storage_context.h"
#include "kernels/products.h"

/// Weights that stay as they are in a file: in bfloat16, float16 or blocks of a few bits, mapped
/// into memory. The tensor that stands for such a weight W is a *shell*: float32, of W's shape and
/// strides, and marked (mark.h), so that each of its operators comes here. The shell's own memory
/// is read-only and holds NaN, the same pages for all shells. So a shell takes no memory, and an
/// operator that went past the mark would show as NaN instead of a wrong number.
namespace lowrank::effective {

/// What a shell stands for; kept in the context of its storage.
struct CompactWeight {
  at::Tensor numbers;             ///< the memory that `matrix` reads
  kernels::CompactMatrix matrix;  ///< (first dimension, all others)
  Geometry geometry;              ///< layout of `matrix` in the shell

  /// Returns whether the tensor is exactly `matrix`.
  bool is(const at::Tensor& tensor) const { return geometry.is(tensor); }
  bool is_transpose_of(const at::Tensor& tensor) const { return geometry.is_transpose_of(tensor); }
};

/// Returns a shell of this shape, of at least two dimensions. `numbers` is contiguous and holds, in
/// this format, as many numbers as the shape has; each row is whole blocks.
at::Tensor compact_shell(const at::Tensor& numbers, kernels::CompactFormat format,
                         at::IntArrayRef shape);

/// Returns another shell of the same W, to which no site is bound.
at::Tensor unbound_shell(const at::Tensor& shell);

/// Returns what a tensor stands for; null for one that is no shell or view of a shell. Its storage
/// keeps it.
const CompactWeight* compact_weight_of(const at::Tensor& tensor);

/// Returns the matrix of a layer, which is not marked: W or Wᵀ, as a tensor or as a shell.
kernels::LayerMatrix layer_matrix(const at::Tensor& matrix);

/// Returns the numbers that a shell, or a view of one, stands for: float32, widened each time.
at::Tensor widened(const at::Tensor& view, const CompactWeight& weight);

/// Returns these rows of the matrix that a shell stands for: (indices..., columns), float32. Throws
/// c10::IndexError for an index that is out of range.
at::Tensor widened_rows(const CompactWeight& weight, const at::Tensor& indices);

}  // namespace lowrank::effective
