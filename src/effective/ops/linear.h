#pragma once

#include "effective/ops/factored_output.h"

/// The products that Linear::forward, TorchScript and programs call with a marked weight.
namespace lowrank::effective {

at::Tensor linear(c10::DispatchKeySet keys, const at::Tensor& x, const at::Tensor& weight,
                  const OptionalTensor& bias);
at::Tensor matmul(c10::DispatchKeySet keys, const at::Tensor& x, const at::Tensor& weight_t);
at::Tensor mm(c10::DispatchKeySet keys, const at::Tensor& x, const at::Tensor& weight_t);
at::Tensor addmm(c10::DispatchKeySet keys, const at::Tensor& bias, const at::Tensor& x,
                 const at::Tensor& weight_t, const at::Scalar& beta, const at::Scalar& alpha);
/// Transposes the weight, which keeps the mark. Linear::forward calls this each time, so it does
/// not go through the fallback.
at::Tensor t(c10::DispatchKeySet keys, const at::Tensor& weight);

/// relu(x·Wᵀ + bias) with the effective weight of `weight` (out, in), x (..., in), as one autograd
/// node. Undefined if the kernels do not compute the layer, or if there is more to do than to add
/// one adapter's factors.
at::Tensor try_linear_relu(const at::Tensor& x, const at::Tensor& weight,
                           const OptionalTensor& bias);

}  // namespace lowrank::effective
