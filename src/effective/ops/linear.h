#pragma once

#include "effective/ops/layer_terms.h"

/// The products that a linear layer is made of: what Linear::forward, TorchScript and programs call
/// with a marked weight.
namespace lowrank::effective {

at::Tensor linear(c10::DispatchKeySet keys, const at::Tensor& x, const at::Tensor& weight,
                  const OptionalTensor& bias);
at::Tensor matmul(c10::DispatchKeySet keys, const at::Tensor& x, const at::Tensor& weight_t);
at::Tensor mm(c10::DispatchKeySet keys, const at::Tensor& x, const at::Tensor& weight_t);
at::Tensor addmm(c10::DispatchKeySet keys, const at::Tensor& bias, const at::Tensor& x,
                 const at::Tensor& weight_t, const at::Scalar& beta, const at::Scalar& alpha);
/// A view keeps the mark; this one, which Linear::forward takes each time, without the fallback.
at::Tensor t(c10::DispatchKeySet keys, const at::Tensor& weight);

/// relu(x·Wᵀ + bias) for whatever `weight` (out, in) means now, x (..., in), as one node of
/// autograd; undefined where the kernels do not compute the layer, or more is to be done than to
/// add one adapter's factors.
at::Tensor try_linear_relu(const at::Tensor& x, const at::Tensor& weight,
                           const OptionalTensor& bias);

}  // namespace lowrank::effective
