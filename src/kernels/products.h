#pragma once

#include <ATen/core/Tensor.h>

#include <utility>

#include "kernels/activation.h"
#include "kernels/compact_matrix.h"
#include "kernels/thin_product.h"

/// The products of thin_product.h, for tensors of any layout.
namespace lowrank::kernels {

/// Returns whether the kernels can read the tensor: float32, on the CPU, strided, and with its
/// values in memory (not imag(conj(z)), whose values still have to be negated).
bool is_kernel_ready(const at::Tensor& tensor);
/// The same, and the tensor has two dimensions.
bool is_kernel_ready_matrix(const at::Tensor& tensor);

/// Pointer, sizes and strides of a kernel-ready matrix; the tensor must outlive it. Its transpose
/// costs nothing, whereas a view of a tensor costs as much as a small product.
struct Operand {
  const float* numbers = nullptr;
  int64_t rows = 0, columns = 0;
  int64_t row = 0, column = 0;             ///< strides, in elements
  const CompactMatrix* compact = nullptr;  ///< in place of `numbers`, for a w alone

  Operand() = default;
  Operand(const at::Tensor& matrix);  // NOLINT: implicit, so that products take tensors

  Operand t() const;
};

/// The matrix W (out, in) of a layer, as a tensor of float32 or in a compact format.
struct LayerMatrix {
  at::Tensor tensor;  ///< of a compact matrix: of its shape and strides, without its numbers
  const CompactMatrix* compact = nullptr;

  LayerMatrix(at::Tensor matrix)  // NOLINT: implicit, so that layers take tensors
      : tensor(std::move(matrix)) {}
  LayerMatrix(at::Tensor shell, const CompactMatrix* matrix)
      : tensor(std::move(shell)), compact(matrix) {}

  Operand operand() const;
  /// W as a tensor of float32, widened if it is compact.
  at::Tensor dense() const;
};

/// x·w, x (rows, depth), w (depth, columns).
struct MatmulOperands {
  Operand x, w;
};

/// x·w as an argument for multiply(), without y; the rows of w must be contiguous.
ThinProduct thin_product(const MatmulOperands& operands);

/// The activation of first.x·first.w (+ second.x·second.w) (+ bias). An operand that the kernels
/// cannot read in place is copied first: a second w with another layout than the first, or an x or
/// w without contiguous rows.
at::Tensor product(const MatmulOperands& first, const MatmulOperands& second = {},
                   const at::Tensor& bias = {}, Activation activation = Activation::kNone);

/// (x·w)ᵀ.
at::Tensor transposed_product(const MatmulOperands& operands);

/// The multiplication that product() is to use for a w with contiguous rows.
using Multiply = void (*)(const ThinProduct& product, const KernelTable& kernels);

/// product() by another multiplication than multiply().
at::Tensor product_by(Multiply multiply, const MatmulOperands& first, const MatmulOperands& second,
                      const at::Tensor& bias, Activation activation);

}  // namespace lowrank::kernels
