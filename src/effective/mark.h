#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <vector>

#include "effective/deferred_gradient.h"
#include "effective/meaning.h"

/// How an adapter gets into an unmodified model: a *marked* tensor means W + s·B·A to every
/// operator that reads it, while its storage holds W.
///
/// The mark is one dispatch key in the tensor's own key set (`kMark`, above Autograd and Autocast),
/// so models without an adapter never reach this code. The meaning of a tensor is found through its
/// storage (storage_context.h).
namespace lowrank::effective {

constexpr c10::DispatchKey kMark = c10::DispatchKey::TESTING_ONLY_GenericWrapper;

/// Marks `weight` and gives it the meaning of this site. Registers the operators on first use.
/// Throws TensorError if another bound weight overlaps it in memory, unless the two are the same
/// tensor, shared by an embedding and another layer.
void bind(const at::Tensor& weight, std::shared_ptr<const Site> site);

/// Like bind(), for a tensor that is the transpose of the site's weight W.
void bind_transposed(const at::Tensor& weight_t, std::shared_ptr<const Site> site);

/// Adds the mark alone.
void add_mark(const at::Tensor& tensor);

/// Removes one site. After the last one, the tensor is an ordinary tensor again and its storage is
/// as it was.
void unbind(const at::Tensor& weight, const Site& site);

/// Marks `weight` (out, in) so that our kernels compute its products in place of LibTorch's
/// wherever no adapter takes part, and offer its gradient to `deferred` for as long as that lives.
/// Returns false, and does nothing, if the weight is accelerated already.
bool accelerate_weight(const at::Tensor& weight, std::weak_ptr<DeferredGradient> deferred = {});
void end_acceleration(const at::Tensor& weight);

inline bool is_marked(const at::Tensor& tensor) {
  return tensor.defined() && tensor.key_set().has(kMark);
}

/// Returns whether `weight` is still bound to `site`; set_data() with another kind of tensor ends
/// that.
bool is_bound(const at::Tensor& weight, const Site& site);

/// All sites whose weight is exactly this tensor.
std::vector<std::shared_ptr<const Site>> sites_of(const at::Tensor& tensor);
/// All sites whose weight is the transpose of exactly this tensor.
std::vector<std::shared_ptr<const Site>> sites_of_transpose(const at::Tensor& tensor);

/// The same tensor (storage, version counter, autograd history) without the mark. Of a shell
/// (compact_weight.h) only the shape may be read: see stored_weight().
at::Tensor without_mark(const at::Tensor& tensor);
/// The transpose of a matrix, without the mark. Makes a view only if there is an autograd history
/// to keep.
at::Tensor transposed_without_mark(const at::Tensor& matrix);

/// Registers what each operator does with a marked tensor, once per process; see ops/register.cc.
void register_operators();

}  // namespace lowrank::effective
