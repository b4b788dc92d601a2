#pragma once

#include <ATen/core/Tensor.h>

#include "kernels/products.h"

/// The products of a linear layer with factors, on unmarked tensors, without autograd. With N rows,
/// `x` is (N, in), `weight` (out, in), `bias` (out) or undefined, `a` (rank, in), `b` (out, rank).
/// W + s·B·A and dW are never formed. The low-rank part is computed in the factors' dtype, as PEFT
/// does (tuners/lora/layer.py, Linear.forward), the rest in the weight's.
namespace lowrank::kernels {

struct LoraLinearOutput {
  /// (N, out): the activation of x·Wᵀ + bias + s·(x·Aᵀ)·Bᵀ, in the weight's dtype.
  at::Tensor y;
  /// (N, rank): x·Aᵀ, in the factors' dtype. The backward pass reads it.
  at::Tensor down;
};

LoraLinearOutput lora_linear_forward(const at::Tensor& x, const LayerMatrix& weight,
                                     const at::Tensor& bias, const at::Tensor& a,
                                     const at::Tensor& b, double scaling,
                                     Activation activation = Activation::kNone);

/// Which gradients are wanted; the others come back undefined.
struct LoraLinearWanted {
  bool x, a, b, bias;
};

struct LoraLinearGradients {
  at::Tensor x;     ///< (N, in): dy·W + s·(dy·B)·A
  at::Tensor a;     ///< (rank, in): s·(dy·B)ᵀ·x
  at::Tensor b;     ///< (out, rank): s·dyᵀ·(x·Aᵀ)
  at::Tensor bias;  ///< (out): the sum of dy over its rows
};

LoraLinearGradients lora_linear_backward(const at::Tensor& dy, const at::Tensor& x,
                                         const at::Tensor& down, const LayerMatrix& weight,
                                         const at::Tensor& a, const at::Tensor& b, double scaling,
                                         LoraLinearWanted wanted);

}  // namespace lowrank::kernels
