#include "effective/mark.h"

#include <ATen/ATen.h>
#include <c10/core/impl/LocalDispatchKeySet.h>
#include <fmt/format.h>
#include <lowrank/error.h>

#include <algorithm>
#include <array>
#include <utility>

#include "effective/differentiation.h"
#include "effective/storage_context.h"

namespace lowrank::effective {
namespace {

/// TensorImpl's key set is protected, so only a derived class can name it.
struct KeySetAccess : c10::TensorImpl {
  static c10::DispatchKeySet& of(const at::Tensor& tensor) {
    return tensor.unsafeGetTensorImpl()->*(&KeySetAccess::key_set_);
  }
};

void remove_mark(const at::Tensor& tensor) {
  auto& keys = KeySetAccess::of(tensor);
  keys = keys.remove(kMark);
}

/// Two sites may share a weight only if each operator can tell which one it reads: an embedding
/// reads its own site, every other operator the other one.
void require_apart(const StorageContext& context, const at::Tensor& weight,
                   const Geometry& geometry, const Site& site) {
  for (const auto& other : context.bindings) {
    const bool overlap =
        geometry.offset < other.geometry.end && other.geometry.offset < geometry.end;
    const bool told_apart =
        other.geometry.is(weight) &&
        (site.kind == LayerKind::kEmbedding) != (other.site->kind == LayerKind::kEmbedding);
    if (!overlap || told_apart) continue;
    fail<TensorError>("attach", "adapted weights must not overlap in memory",
                      fmt::format("\"{}\" and \"{}\", which do", site.path, other.site->path));
  }
}

/// Removes the mark if nothing is bound to the weight any more, and the storage's context if
/// nothing is left in it.
void remove_unused_mark(const at::Tensor& weight) {
  const auto& storage = weight.storage();
  const auto* context = StorageContext::of(storage);
  const bool used =
      context != nullptr && (context->compact != nullptr || !sites_of(weight).empty() ||
                             context->find_accelerated(weight, /*transposed=*/false) != nullptr);
  if (used) return;
  remove_mark(weight);
  if (context != nullptr && context->bindings.empty() && context->accelerated.empty()) {
    StorageContext::remove(storage);
  }
}

/// Returns whether the tensor has an autograd history, which only a view made by autograd keeps.
bool has_history(const at::Tensor& tensor) { return tensor.requires_grad() || has_tangent(tensor); }

template <class Condition>
std::vector<std::shared_ptr<const Site>> sites_where(const at::Tensor& tensor,
                                                     const Condition& condition) {
  std::vector<std::shared_ptr<const Site>> sites;
  if (const auto* context = StorageContext::of(tensor.storage())) {
    for (const auto& binding : context->bindings) {
      if (condition(binding.geometry)) sites.push_back(binding.site);
    }
  }
  return sites;
}

}  // namespace

void add_mark(const at::Tensor& tensor) {
  auto& keys = KeySetAccess::of(tensor);
  keys = keys.add(kMark);
}

void bind(const at::Tensor& weight, std::shared_ptr<const Site> site) {
  register_operators();
  const auto& storage = weight.storage();
  const auto geometry = Geometry::of(weight);
  if (const auto* context = StorageContext::of(storage)) {
    require_apart(*context, weight, geometry, *site);
  }
  StorageContext::make(storage).bindings.push_back({std::move(site), geometry});
  add_mark(weight);
}

void bind_transposed(const at::Tensor& weight_t, std::shared_ptr<const Site> site) {
  const c10::impl::ExcludeDispatchKeyGuard below(kMark);
  effective::bind(weight_t.detach().t(), std::move(site));  // std::bind would match better
  add_mark(weight_t);
}

void unbind(const at::Tensor& weight, const Site& site) {
  if (auto* context = StorageContext::of(weight.storage())) {
    std::erase_if(context->bindings, [&](const Binding& binding) {
      return binding.geometry.is(weight) && binding.site.get() == &site;
    });
  }
  remove_unused_mark(weight);
}

bool accelerate_weight(const at::Tensor& weight, std::weak_ptr<DeferredGradient> deferred) {
  register_operators();
  auto& context = StorageContext::make(weight.storage());
  if (context.find_accelerated(weight, /*transposed=*/false) != nullptr) return false;
  context.accelerated.push_back(
      {Geometry::of(weight), weight.unsafeGetTensorImpl(), std::move(deferred)});
  add_mark(weight);
  return true;
}

void end_acceleration(const at::Tensor& weight) {
  auto* context = StorageContext::of(weight.storage());
  if (context == nullptr) return;
  std::erase_if(context->accelerated, [&](const AcceleratedWeight& accelerated) {
    return accelerated.geometry.is(weight);
  });
  remove_unused_mark(weight);
}

bool is_bound(const at::Tensor& weight, const Site& site) {
  const auto sites = sites_of(weight);
  return is_marked(weight) && std::any_of(sites.begin(), sites.end(),
                                          [&](const auto& bound) { return bound.get() == &site; });
}

std::vector<std::shared_ptr<const Site>> sites_of(const at::Tensor& tensor) {
  return sites_where(tensor, [&](const Geometry& whole) { return whole.is(tensor); });
}

std::vector<std::shared_ptr<const Site>> sites_of_transpose(const at::Tensor& tensor) {
  return sites_where(tensor, [&](const Geometry& whole) { return whole.is_transpose_of(tensor); });
}

at::Tensor without_mark(const at::Tensor& tensor) {
  at::Tensor unmarked;
  if (has_history(tensor)) {
    const c10::impl::ExcludeDispatchKeyGuard below(kMark);
    unmarked = at::alias(tensor);
  } else {
    auto* impl = tensor.unsafeGetTensorImpl();
    unmarked = at::Tensor(impl->shallow_copy_and_detach(impl->version_counter(),
                                                        /*allow_tensor_metadata_change=*/true));
  }
  remove_mark(unmarked);
  return unmarked;
}

at::Tensor transposed_without_mark(const at::Tensor& matrix) {
  auto unmarked = without_mark(matrix);
  if (has_history(unmarked)) return unmarked.t();
  const std::array<int64_t, 2> sizes = {matrix.size(1), matrix.size(0)};
  const std::array<int64_t, 2> strides = {matrix.stride(1), matrix.stride(0)};
  unmarked.unsafeGetTensorImpl()->set_sizes_and_strides(at::IntArrayRef(sizes),
                                                        at::IntArrayRef(strides));
  return unmarked;
}

}  // namespace lowrank::effective
