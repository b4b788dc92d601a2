#pragma once

#include <ATen/TracerMode.h>
#include <ATen/core/Tensor.h>
#include <ATen/core/grad_mode.h>
#include <c10/core/DispatchKeySet.h>
#include <c10/core/impl/LocalDispatchKeySet.h>

/// Tells what autograd has to see. Anything else is computed below autograd, whose kernels cost
/// more than a small layer does.
namespace lowrank::effective {

/// Returns whether the tensor carries a forward-mode derivative. A tensor without autograd metadata
/// never does, which is known without a call.
inline bool has_tangent(const at::Tensor& tensor) {
  return tensor.defined() && tensor.unsafeGetTensorImpl()->autograd_meta() != nullptr &&
         tensor._fw_grad(/*level=*/0).defined();
}

/// Returns whether autograd must see what is computed from this tensor.
inline bool is_differentiated(const at::Tensor& tensor) {
  return (tensor.defined() && tensor.requires_grad() && at::GradMode::is_enabled()) ||
         has_tangent(tensor);
}

/// Returns whether torch::jit's tracer is recording. It can only record LibTorch's own operators.
inline bool is_traced() { return at::tracer::impl::is_dispatch_enabled(); }

constexpr c10::DispatchKeySet kAutograd = c10::autograd_dispatch_keyset_with_ADInplaceOrView;

/// While it lives, operators called on this thread skip autograd.
class BelowAutograd {
  c10::impl::ExcludeDispatchKeyGuard below_{kAutograd};
};

}  // namespace lowrank::effective
