#pragma once

#include <ATen/core/Tensor.h>

#include "kernels/thin_product.h"

/// thin_product.h on tensors, however they lie.
namespace lowrank::kernels {

/// x·w, x (rows, depth), w (depth, columns).
struct Factors {
  at::Tensor x, w;
};

/// Whether the kernels can take it: float32 on the CPU, strided.
bool is_plain(const at::Tensor& tensor);
/// The same, of two dimensions.
bool is_plain_matrix(const at::Tensor& tensor);

/// x·w for multiply(), without a y; plain matrices, w with contiguous rows. They must outlive it.
ThinProduct thin_product(const Factors& factors);

/// first.x·first.w (+ second.x·second.w) (+ bias), for plain matrices. What does not lie as the
/// kernels read it is copied first: x, or the smaller w.
at::Tensor product(const Factors& first, const Factors& second = {}, const at::Tensor& bias = {});

/// The same by multiply_halves(), for a weight w: dy·W.
at::Tensor product_of_halves(const Factors& first, const Factors& second = {});

}  // namespace lowrank::kernels
