#pragma once

#include <ATen/core/Tensor.h>

#include "kernels/products.h"

/// The products of a linear layer on unmarked tensors, without autograd: x is (N, in), weight (out,
/// in), bias (out) or undefined.
namespace lowrank::kernels {

/// Returns whether the kernels can compute this layer: kernel-ready tensors, of shapes that fit.
bool is_kernel_ready_linear(const at::Tensor& x, const LayerMatrix& weight, const at::Tensor& bias);

/// (N, out): the activation of x·Wᵀ + bias.
at::Tensor linear_forward(const at::Tensor& x, const LayerMatrix& weight, const at::Tensor& bias,
                          Activation activation = Activation::kNone);

/// Which gradients are wanted; the others come back undefined.
struct LinearWanted {
  bool x, weight, bias;
};

struct LinearGradients {
  at::Tensor x;       ///< (N, in): dy·W
  at::Tensor weight;  ///< (out, in): dyᵀ·x
  at::Tensor bias;    ///< (out): the sum of dy over its rows
};

LinearGradients linear_backward(const at::Tensor& dy, const at::Tensor& x,
                                const LayerMatrix& weight, LinearWanted wanted);

}  // namespace lowrank::kernels
