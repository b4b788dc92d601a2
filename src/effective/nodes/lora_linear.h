#pragma once

#include <ATen/core/Tensor.h>

#include "effective/meaning.h"
#include "kernels/activation.h"

namespace lowrank::effective {

/// x·Mᵀ + bias + s·(x·Aᵀ)·Bᵀ through the activation as one node of autograd; x (..., in), M (out,
/// in) without a mark and frozen, bias (out) or undefined, the term A and B alone. Gradients flow
/// to x, A, B and the bias; double backward works.
at::Tensor lora_linear_node(const at::Tensor& x, const at::Tensor& matrix, const at::Tensor& bias,
                            const Term& term,
                            kernels::Activation activation = kernels::Activation::kNone);

}  // namespace lowrank::effective
