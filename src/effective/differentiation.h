#pragma once

#include <ATen/TracerMode.h>
#include <ATen/core/Tensor.h>
#include <ATen/core/grad_mode.h>
#include <c10/core/DispatchKeySet.h>
#include <c10/core/impl/LocalDispatchKeySet.h>

/// What nobody differentiates is computed below autograd, whose kernels cost more than a small
/// layer does.
namespace lowrank::effective {

/// Whether it is part of a forward derivative. A tensor that autograd has never seen is none, and
/// is known without a call.
inline bool has_tangent(const at::Tensor& tensor) {
  return tensor.defined() && tensor.unsafeGetTensorImpl()->autograd_meta() != nullptr &&
         tensor._fw_grad(/*level=*/0).defined();
}

/// Whether autograd must see what is computed from this tensor.
inline bool is_differentiated(const at::Tensor& tensor) {
  return (tensor.defined() && tensor.requires_grad() && at::GradMode::is_enabled()) ||
         has_tangent(tensor);
}

/// Whether torch::jit's tracer writes down what is called, which must then be LibTorch's operators.
inline bool is_traced() { return at::tracer::impl::is_dispatch_enabled(); }

constexpr c10::DispatchKeySet kAutograd = c10::autograd_dispatch_keyset_with_ADInplaceOrView;

/// While it lives, this thread's operators are called without autograd.
class BelowAutograd {
  c10::impl::ExcludeDispatchKeyGuard below_{kAutograd};
};

}  // namespace lowrank::effective
