#pragma once

#include <ATen/core/Tensor.h>

#include "kernels/activation.h"
#include "kernels/thin_product.h"

/// thin_product.h on tensors, however they lie.
namespace lowrank::kernels {

/// Whether the kernels can take it: float32 on the CPU, strided, and its numbers are those that lie
/// there (those of imag(conj(z)) are to be negated first).
bool is_kernel_ready(const at::Tensor& tensor);
/// The same, of two dimensions.
bool is_kernel_ready_matrix(const at::Tensor& tensor);

/// Where the numbers of a plain matrix lie; the tensor must outlive it. Its transpose costs
/// nothing, where a view of a tensor costs as much as a small product.
struct Operand {
  const float* numbers = nullptr;
  int64_t rows = 0, columns = 0;
  int64_t row = 0, column = 0;  ///< from one to the next, in elements

  Operand() = default;
  Operand(const at::Tensor& matrix);  // NOLINT: a tensor is what products are asked for with

  Operand t() const;
};

/// x·w, x (rows, depth), w (depth, columns).
struct MatmulOperands {
  Operand x, w;
};

/// x·w for multiply(), without a y; w with contiguous rows.
ThinProduct thin_product(const MatmulOperands& operands);

/// first.x·first.w (+ second.x·second.w) (+ bias), through the activation. What does not lie as the
/// kernels read it is copied first: a second w that lies other than the first, an x or a w without
/// contiguous rows.
at::Tensor product(const MatmulOperands& first, const MatmulOperands& second = {},
                   const at::Tensor& bias = {}, Activation activation = Activation::kNone);

/// (x·w)ᵀ.
at::Tensor transposed_product(const MatmulOperands& operands);

/// The gradient dy·W of a layer's input, + dy₂·W₂: products by multiply_halves(), which two threads
/// share by the rows of W.
at::Tensor input_gradient(const MatmulOperands& first, const MatmulOperands& second = {});

}  // namespace lowrank::kernels
