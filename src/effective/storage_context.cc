#include "effective/storage_context.h"

#include <algorithm>
#include <utility>

namespace lowrank::effective {
namespace {

void release(void* context) { delete static_cast<StorageContext*>(context); }

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

bool Geometry::holds(const at::Tensor& tensor) const {
  return tensor.storage_offset() >= offset && (tensor.storage_offset() < end || is(tensor));
}

std::weak_ptr<DeferredGradient> AcceleratedWeight::deferred_for(
    const at::TensorImpl* of_leaf) const {
  return leaf == of_leaf ? deferred : std::weak_ptr<DeferredGradient>();
}

StorageContext* StorageContext::of(const c10::Storage& storage) {
  const at::DataPtr& data = storage.data_ptr();
  if (data.get_deleter() != &release) return nullptr;
  return static_cast<StorageContext*>(data.get_context());
}

StorageContext& StorageContext::make(const c10::Storage& storage) {
  if (auto* existing = of(storage)) return *existing;
  auto context = std::make_unique<StorageContext>();
  context->original = storage.set_data_ptr(at::DataPtr());
  const at::DataPtr& original = context->original;
  auto* raw = context.get();
  storage.set_data_ptr(at::DataPtr(original.get(), context.release(), &release, original.device()));
  return *raw;
}

void StorageContext::remove(const c10::Storage& storage) {
  at::DataPtr wrapped = storage.set_data_ptr(at::DataPtr());
  storage.set_data_ptr(std::move(static_cast<StorageContext*>(wrapped.get_context())->original));
}

const AcceleratedWeight* StorageContext::find_accelerated(const at::Tensor& tensor,
                                                          bool transposed) const {
  const auto found =
      std::find_if(accelerated.begin(), accelerated.end(), [&](const AcceleratedWeight& weight) {
        return transposed ? weight.geometry.is_transpose_of(tensor) : weight.geometry.is(tensor);
      });
  return found == accelerated.end() ? nullptr : &*found;
}

}  // namespace lowrank::effective
