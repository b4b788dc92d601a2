#include "effective/mark.h"

#include <ATen/ATen.h>
#include <c10/core/impl/LocalDispatchKeySet.h>
#include <fmt/format.h>
#include <lowrank/error.h>

#include <algorithm>
#include <array>
#include <utility>

#include "effective/differentiation.h"

namespace lowrank::effective {
namespace {

/// One whose products are ours.
struct FastWeight {
  Geometry geometry;
  const at::TensorImpl* leaf;  // only to compare with
  std::weak_ptr<DeferredGradient> deferred;
};

/// Stands around a storage's own DataPtr and says what the weights in it mean.
struct StorageContext {
  at::DataPtr original;
  std::vector<Binding> bindings;
  std::vector<FastWeight> fast;
};

void release(void* context) { delete static_cast<StorageContext*>(context); }

StorageContext* context_of(const c10::Storage& storage) {
  const at::DataPtr& data = storage.data_ptr();
  if (data.get_deleter() != &release) return nullptr;
  return static_cast<StorageContext*>(data.get_context());
}

StorageContext* wrap(const c10::Storage& storage) {
  auto context = std::make_unique<StorageContext>();
  context->original = storage.set_data_ptr(at::DataPtr());
  const at::DataPtr& original = context->original;
  auto* raw = context.get();
  storage.set_data_ptr(at::DataPtr(original.get(), context.release(), &release, original.device()));
  return raw;
}

void unwrap(const c10::Storage& storage) {
  at::DataPtr wrapped = storage.set_data_ptr(at::DataPtr());
  storage.set_data_ptr(std::move(static_cast<StorageContext*>(wrapped.get_context())->original));
}

const FastWeight* find_fast(const StorageContext& context, const at::Tensor& tensor) {
  const auto found =
      std::find_if(context.fast.begin(), context.fast.end(),
                   [&](const FastWeight& weight) { return weight.geometry.is(tensor); });
  return found == context.fast.end() ? nullptr : &*found;
}

/// TensorImpl keeps its key set protected; a derived class may name it.
struct KeySetAccess : c10::TensorImpl {
  static c10::DispatchKeySet& of(const at::Tensor& tensor) {
    return tensor.unsafeGetTensorImpl()->*(&KeySetAccess::key_set_);
  }
};

/// The part of `sum`, which stands for the whole weight of this geometry, that `view` is of W.
at::Tensor same_view(const at::Tensor& sum, const Geometry& whole, const at::Tensor& view) {
  if (whole.is(view)) return sum;
  auto laid_out = sum;
  if (sum.strides() != at::IntArrayRef(whole.strides)) {  // W has gaps between its rows
    laid_out = at::as_strided_scatter(at::zeros({whole.end - whole.offset}, sum.options()), sum,
                                      whole.sizes, whole.strides, 0);
  }
  return laid_out.as_strided(view.sizes(), view.strides(), view.storage_offset() - whole.offset);
}

bool reads(Reader reader, Form form) {
  switch (form) {
    case Form::kEmbedding:
      return reader == Reader::kEmbedding;
    case Form::kMatrix:
    case Form::kTransposed:
    case Form::kConv:
    case Form::kExperts:
    case Form::kTransposedExperts:
      return reader == Reader::kOther;
    case Form::kOther:
      return true;
  }
  return true;
}

/// What this reader reads where `tensor` lies.
const Binding* find_in(const StorageContext& context, const at::Tensor& tensor, Reader reader) {
  for (const auto& binding : context.bindings) {
    const auto& whole = binding.geometry;
    if (reads(reader, binding.site->form) && tensor.storage_offset() >= whole.offset &&
        (tensor.storage_offset() < whole.end || whole.is(tensor))) {
      return &binding;
    }
  }
  return nullptr;
}

/// Two sites may share a weight only where the operator tells them apart.
void require_apart(const StorageContext& context, const at::Tensor& weight,
                   const Geometry& geometry, const Site& site) {
  for (const auto& other : context.bindings) {
    const bool overlap =
        geometry.offset < other.geometry.end && other.geometry.offset < geometry.end;
    const bool told_apart = other.geometry.is(weight) && (site.form == Form::kEmbedding) !=
                                                             (other.site->form == Form::kEmbedding);
    if (!overlap || told_apart) continue;
    fail<TensorError>("attach", "adapted weights must not overlap in memory",
                      fmt::format("\"{}\" and \"{}\", which do", site.path, other.site->path));
  }
}

/// Makes an ordinary tensor of one that nothing is bound to any more, and of its storage.
void drop_unused_mark(const at::Tensor& weight) {
  const auto& storage = weight.storage();
  auto* context = context_of(storage);
  const bool used =
      context != nullptr && (!sites_of(weight).empty() || find_fast(*context, weight) != nullptr);
  if (used) return;
  auto& keys = KeySetAccess::of(weight);
  keys = keys.remove(kMark);
  if (context != nullptr && context->bindings.empty() && context->fast.empty()) unwrap(storage);
}

/// What only a view that autograd makes keeps.
bool has_history(const at::Tensor& tensor) { return tensor.requires_grad() || has_tangent(tensor); }

template <class Condition>
std::vector<std::shared_ptr<const Site>> sites_where(const at::Tensor& tensor,
                                                     const Condition& condition) {
  std::vector<std::shared_ptr<const Site>> sites;
  if (const auto* context = context_of(tensor.storage())) {
    for (const auto& binding : context->bindings) {
      if (condition(binding.geometry)) sites.push_back(binding.site);
    }
  }
  return sites;
}

/// A dense weight has no input of A to drop from.
void require_no_dropout(const Meaning& meaning, const Site& site) {
  for (const auto& term : meaning.terms) {
    if (term.dropout <= 0 || !site.trains()) continue;
    fail<TensorError>("adapter", fmt::format("lora_dropout must be 0 to train \"{}\"", site.path),
                      fmt::format("{}, and an operator that needs one dense weight", term.dropout),
                      "Only linear layers, convolutions and embeddings can drop the input of A.");
  }
}

/// A dense weight can mean one thing; in a mixed batch that must be the base's.
void require_base_in_all(const Selection& mixed, const Site& site) {
  for (const auto& part : mixed.parts) {
    if (part.selection->of(site).is_base()) continue;
    fail<TensorError>("mixed batch",
                      fmt::format("\"{}\" must be read by a linear layer, a convolution or an "
                                  "embedding, which take factors row by row",
                                  site.path),
                      part.selection->of(site).replacement.defined()
                          ? "one that an adapter trains itself, which no factors stand for"
                          : "an operator that needs one dense weight",
                      "Run the adapters one after the other, or leave this layer out of them.");
  }
}

}  // namespace

Geometry Geometry::of(const at::Tensor& tensor) {
  int64_t end = tensor.storage_offset();
  if (tensor.numel() > 0) {
    for (int64_t i = 0; i < tensor.dim(); ++i) end += (tensor.size(i) - 1) * tensor.stride(i);
    ++end;
  }
  return {tensor.storage_offset(), end, tensor.sizes().vec(), tensor.strides().vec()};
}

bool Geometry::is(const at::Tensor& tensor) const {
  return tensor.storage_offset() == offset && tensor.sizes() == at::IntArrayRef(sizes) &&
         tensor.strides() == at::IntArrayRef(strides);
}

bool Geometry::is_transpose_of(const at::Tensor& tensor) const {
  return tensor.dim() == 2 && sizes.size() == 2 && tensor.storage_offset() == offset &&
         tensor.size(0) == sizes[1] && tensor.size(1) == sizes[0] &&
         tensor.stride(0) == strides[1] && tensor.stride(1) == strides[0];
}

void bind(const at::Tensor& weight, std::shared_ptr<const Site> site) {
  register_operators();
  const auto& storage = weight.storage();
  auto* context = context_of(storage);
  const auto geometry = Geometry::of(weight);
  if (context != nullptr) require_apart(*context, weight, geometry, *site);
  if (context == nullptr) context = wrap(storage);
  context->bindings.push_back({std::move(site), geometry});
  auto& keys = KeySetAccess::of(weight);
  keys = keys.add(kMark);
}

void bind_transposed(const at::Tensor& weight_t, std::shared_ptr<const Site> site) {
  const c10::impl::ExcludeDispatchKeyGuard below(kMark);
  effective::bind(weight_t.detach().t(), std::move(site));  // not std::bind, which matches better
  auto& keys = KeySetAccess::of(weight_t);
  keys = keys.add(kMark);
}

void unbind(const at::Tensor& weight, const Site& site) {
  const auto& storage = weight.storage();
  auto* context = context_of(storage);
  if (context != nullptr) {
    std::erase_if(context->bindings, [&](const Binding& binding) {
      return binding.geometry.is(weight) && binding.site.get() == &site;
    });
  }
  drop_unused_mark(weight);
}

bool bind_fast(const at::Tensor& weight, std::weak_ptr<DeferredGradient> deferred) {
  register_operators();
  const auto& storage = weight.storage();
  auto* context = context_of(storage);
  if (context == nullptr) context = wrap(storage);
  if (find_fast(*context, weight) != nullptr) return false;
  context->fast.push_back(
      {Geometry::of(weight), weight.unsafeGetTensorImpl(), std::move(deferred)});
  auto& keys = KeySetAccess::of(weight);
  keys = keys.add(kMark);
  return true;
}

void unbind_fast(const at::Tensor& weight) {
  auto* context = context_of(weight.storage());
  if (context == nullptr) return;
  std::erase_if(context->fast, [&](const FastWeight& fast) { return fast.geometry.is(weight); });
  drop_unused_mark(weight);
}

bool is_fast(const at::Tensor& tensor, bool transposed) {
  const auto* context = context_of(tensor.storage());
  return context != nullptr &&
         std::any_of(context->fast.begin(), context->fast.end(), [&](const FastWeight& weight) {
           const auto& geometry = weight.geometry;
           return transposed ? geometry.is_transpose_of(tensor) : geometry.is(tensor);
         });
}

std::weak_ptr<DeferredGradient> deferred_gradient_of(const at::Tensor& weight,
                                                     const at::TensorImpl* leaf) {
  const auto* context = context_of(weight.storage());
  const auto* fast = context == nullptr ? nullptr : find_fast(*context, weight);
  if (fast == nullptr || fast->leaf != leaf) return {};
  return fast->deferred;
}

bool is_marked(const at::Tensor& tensor) { return tensor.defined() && tensor.key_set().has(kMark); }

bool is_bound(const at::Tensor& weight, const Site& site) {
  const auto sites = sites_of(weight);
  return is_marked(weight) && std::any_of(sites.begin(), sites.end(),
                                          [&](const auto& bound) { return bound.get() == &site; });
}

const Binding* find(const at::Tensor& tensor, Reader reader) {
  const auto* context = context_of(tensor.storage());
  return context == nullptr ? nullptr : find_in(*context, tensor, reader);
}

std::vector<std::shared_ptr<const Site>> sites_of(const at::Tensor& tensor) {
  return sites_where(tensor, [&](const Geometry& whole) { return whole.is(tensor); });
}

std::vector<std::shared_ptr<const Site>> sites_of_transpose(const at::Tensor& tensor) {
  return sites_where(tensor, [&](const Geometry& whole) { return whole.is_transpose_of(tensor); });
}

at::Tensor without_mark(const at::Tensor& tensor) {
  at::Tensor plain;
  if (has_history(tensor)) {
    const c10::impl::ExcludeDispatchKeyGuard below(kMark);
    plain = at::alias(tensor);
  } else {
    auto* impl = tensor.unsafeGetTensorImpl();
    plain = at::Tensor(impl->shallow_copy_and_detach(impl->version_counter(),
                                                     /*allow_tensor_metadata_change=*/true));
  }
  auto& keys = KeySetAccess::of(plain);
  keys = keys.remove(kMark);
  return plain;
}

at::Tensor transposed_without_mark(const at::Tensor& matrix) {
  auto plain = without_mark(matrix);
  if (has_history(plain)) return plain.t();
  const std::array<int64_t, 2> sizes = {matrix.size(1), matrix.size(0)};
  const std::array<int64_t, 2> strides = {matrix.stride(1), matrix.stride(0)};
  plain.unsafeGetTensorImpl()->set_sizes_and_strides(at::IntArrayRef(sizes),
                                                     at::IntArrayRef(strides));
  return plain;
}

Reading reading_of(const at::Tensor& tensor) {
  if (!is_marked(tensor)) return Reading::kStored;
  const auto* context = context_of(tensor.storage());
  if (context == nullptr) return Reading::kStored;
  if (const auto* binding = find_in(*context, tensor, Reader::kOther)) {
    const auto& selection = *binding->site->board->selection();
    const auto& meaning = selection.of(*binding->site);
    if (selection.is_mixed() || !meaning.is_base() || meaning.observe) return Reading::kOther;
  }
  return context->fast.empty() ? Reading::kStored : Reading::kFast;
}

at::Tensor resolve(const at::Tensor& tensor, Reader reader) {
  if (!is_marked(tensor)) return tensor;
  const auto* binding = find(tensor, reader);
  if (binding == nullptr) return without_mark(tensor);
  const auto& site = *binding->site;
  const auto selection = site.board->selection();  // kept while the dense weight is made
  if (selection->is_mixed()) {
    require_base_in_all(*selection, site);
    return without_mark(tensor);
  }
  const auto& meaning = selection->of(site);
  if (meaning.is_base()) return without_mark(tensor);
  require_no_dropout(meaning, site);
  site.dense_reads.fetch_add(1, std::memory_order_relaxed);
  const auto& whole = binding->geometry;
  const c10::impl::ExcludeDispatchKeyGuard below(kMark);
  const auto weight = without_mark(
      whole.is(tensor) ? tensor : tensor.as_strided(whole.sizes, whole.strides, whole.offset));
  return same_view(dense(weight, site, meaning), whole, tensor);
}

}  // namespace lowrank::effective
