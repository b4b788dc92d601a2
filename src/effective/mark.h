#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <vector>

#include "effective/deferred_gradient.h"
#include "effective/meaning.h"

/// How an adapter gets into an unmodified model: a *marked* tensor means W + s·B·A to every
/// operator that reads it, while its storage holds W.
///
/// The mark is one dispatch key in the tensor's own key set (`kMark`, above Autograd and
/// Autocast), so models without an adapter never reach this code. What the tensor means is found
/// through its storage (storage_context.h).
namespace lowrank::effective {

constexpr c10::DispatchKey kMark = c10::DispatchKey::TESTING_ONLY_GenericWrapper;

/// Marks `weight` and makes it mean what its site says. Registers the operators on first use.
/// Throws TensorError where another bound weight of the same storage overlaps it and nothing tells
/// the two apart.
void bind(const at::Tensor& weight, std::shared_ptr<const Site> site);

/// The same for a tensor that lies as the transpose of the weight W of this site.
void bind_transposed(const at::Tensor& weight_t, std::shared_ptr<const Site> site);

/// Takes one site away; with the last one the tensor is an ordinary one again, its storage as it
/// was.
void unbind(const at::Tensor& weight, const Site& site);

/// Marks `weight` (out, in): where no adapter takes part in a product with it, our kernels compute
/// the product in place of LibTorch, and offer its gradient to `deferred` while that lives. False,
/// with nothing done, where it is accelerated already.
bool accelerate_weight(const at::Tensor& weight, std::weak_ptr<DeferredGradient> deferred = {});
void end_acceleration(const at::Tensor& weight);

bool is_marked(const at::Tensor& tensor);

/// Whether `weight` means what its site says: set_data() with a tensor of another kind ends that.
bool is_bound(const at::Tensor& weight, const Site& site);

/// All sites whose weight is exactly this tensor.
std::vector<std::shared_ptr<const Site>> sites_of(const at::Tensor& tensor);
/// All whose weight's transpose it is.
std::vector<std::shared_ptr<const Site>> sites_of_transpose(const at::Tensor& tensor);

/// The same tensor (storage, version counter, autograd history) without the mark.
at::Tensor without_mark(const at::Tensor& tensor);
/// The same of a matrix's transpose, without a view where there is no history to keep.
at::Tensor transposed_without_mark(const at::Tensor& matrix);

/// Registers what each operator does with a marked tensor, once a process; see ops/register.cc.
void register_operators();

}  // namespace lowrank::effective
