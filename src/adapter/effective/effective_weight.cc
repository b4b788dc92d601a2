#include "adapter/effective/effective_weight.h"

#include <ATen/ATen.h>
#include <c10/core/impl/LocalDispatchKeySet.h>
#include <lowrank/error.h>

#include <algorithm>
#include <utility>

namespace lowrank::effective {
namespace {

/// Stands around a storage's own DataPtr and says what the weights in it mean.
struct StorageContext {
  at::DataPtr original;
  std::vector<Binding> bindings;
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

/// TensorImpl keeps its key set protected; a derived class may name it.
struct KeySetAccess : c10::TensorImpl {
  static c10::DispatchKeySet& of(const at::Tensor& tensor) {
    return tensor.unsafeGetTensorImpl()->*(&KeySetAccess::key_set_);
  }
};

thread_local std::vector<const AdapterSwitch*> disabled_here;

/// The part of `sum`, which stands for the whole weight of this geometry, that `view` is of W.
at::Tensor same_view(const at::Tensor& sum, const Geometry& whole, const at::Tensor& view) {
  if (whole.is(view)) return sum;
  auto laid_out = sum;
  if (sum.strides() != at::IntArrayRef(whole.strides)) {  // W has gaps between its rows
    laid_out = at::as_strided_scatter(at::zeros({whole.end() - whole.offset}, sum.options()), sum,
                                      whole.sizes, whole.strides, 0);
  }
  return laid_out.as_strided(view.sizes(), view.strides(), view.storage_offset() - whole.offset);
}

}  // namespace

bool AdapterSwitch::active() const {
  if (!enabled.load(std::memory_order_relaxed) || merged.load(std::memory_order_relaxed)) {
    return false;
  }
  return disabled_here.empty() ||
         std::find(disabled_here.begin(), disabled_here.end(), this) == disabled_here.end();
}

ThreadDisable::ThreadDisable(const AdapterSwitch* adapter) : adapter_(adapter) {
  disabled_here.push_back(adapter_);
}

ThreadDisable::~ThreadDisable() {
  const auto last = std::find(disabled_here.rbegin(), disabled_here.rend(), adapter_);
  if (last != disabled_here.rend()) disabled_here.erase(std::next(last).base());
}

Geometry Geometry::of(const at::Tensor& tensor) {
  return {tensor.sizes().vec(), tensor.strides().vec(), tensor.storage_offset()};
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

int64_t Geometry::end() const {
  int64_t last = offset;
  for (size_t i = 0; i < sizes.size(); ++i) {
    if (sizes[i] == 0) return offset;
    last += (sizes[i] - 1) * strides[i];
  }
  return last + 1;
}

void bind(const at::Tensor& weight, std::shared_ptr<Factors> factors) {
  register_operators();
  const auto& storage = weight.storage();
  auto* context = context_of(storage);
  if (context == nullptr) context = wrap(storage);
  const auto geometry = Geometry::of(weight);
  for (const auto& other : context->bindings) {
    if (geometry.offset < other.geometry.end() && other.geometry.offset < geometry.end()) {
      fail<TensorError>(
          "attach", "adapted weights must not overlap in memory",
          fmt::format("\"{}\" and \"{}\", which do", factors->layer, other.factors->layer));
    }
  }
  context->bindings.push_back({geometry, std::move(factors)});
  auto& keys = KeySetAccess::of(weight);
  keys = keys.add(kMark);
}

void unbind(const at::Tensor& weight) {
  auto& keys = KeySetAccess::of(weight);
  keys = keys.remove(kMark);
  const auto& storage = weight.storage();
  auto* context = context_of(storage);
  if (context == nullptr) return;
  std::erase_if(context->bindings,
                [&](const Binding& binding) { return binding.geometry.is(weight); });
  if (context->bindings.empty()) unwrap(storage);
}

bool is_marked(const at::Tensor& tensor) { return tensor.defined() && tensor.key_set().has(kMark); }

const Binding* find(const at::Tensor& tensor) {
  const auto* context = context_of(tensor.storage());
  if (context == nullptr) return nullptr;
  for (const auto& binding : context->bindings) {
    const auto& whole = binding.geometry;
    if (tensor.storage_offset() >= whole.offset &&
        (tensor.storage_offset() < whole.end() || whole.is(tensor))) {
      return &binding;
    }
  }
  return nullptr;
}

at::Tensor without_mark(const at::Tensor& tensor) {
  at::Tensor plain;
  if (tensor.requires_grad()) {  // an alias that keeps the history
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

at::Tensor dense(const at::Tensor& weight, const Factors& factors) {
  const auto delta = at::mm(factors.b, factors.a).mul(factors.scaling).view(weight.sizes());
  return (weight + delta).to(weight.scalar_type());
}

at::Tensor resolve(const at::Tensor& tensor) {
  if (!is_marked(tensor)) return tensor;
  const auto* binding = find(tensor);
  if (binding == nullptr || !binding->factors->adapter->active()) return without_mark(tensor);
  binding->factors->general_calls.fetch_add(1, std::memory_order_relaxed);
  const auto& whole = binding->geometry;
  const c10::impl::ExcludeDispatchKeyGuard below(kMark);
  const auto weight = without_mark(
      whole.is(tensor) ? tensor : tensor.as_strided(whole.sizes, whole.strides, whole.offset));
  return same_view(dense(weight, *binding->factors), whole, tensor);
}

}  // namespace lowrank::effective
