#pragma once

#include <ATen/core/Tensor.h>

#include "effective/meaning.h"
#include "kernels/activation.h"

namespace lowrank::effective {

/// The activation of x·Mᵀ + bias + s·(x·Aᵀ)·Bᵀ as one autograd node; x is (..., in), M (out, in)
/// unmarked and frozen, bias (out) or undefined, and the term consists of A and B only. Gradients
/// flow to x, A, B and the bias; double backward works.
at::Tensor lora_linear_node(const at::Tensor& x, const at::Tensor& matrix, const at::Tensor& bias,
                            const Term& term,
                            kernels::Activation activation = kernels::Activation::kNone);

}  // namespace lowrank::effective
