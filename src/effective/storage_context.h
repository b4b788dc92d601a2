#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <vector>

#include "effective/deferred_gradient.h"
#include "effective/meaning.h"

/// What is known about the weights in one storage. The storage's DataPtr is replaced by one that
/// owns this context and, through it, the original DataPtr. So the lookup takes no lock, every view
/// of a weight finds the context, and it lives as long as the storage.
namespace lowrank::effective {

/// The layout of a weight within its storage.
struct Geometry {
  int64_t offset;
  int64_t end;  ///< one past the last element it spans
  std::vector<int64_t> sizes, strides;

  static Geometry of(const at::Tensor& tensor);
  bool is(const at::Tensor& tensor) const;
  bool is_transpose_of(const at::Tensor& tensor) const;  ///< 2-D only
  /// Returns whether the tensor's first element is within this weight.
  bool holds(const at::Tensor& tensor) const;
};

/// A weight's layout, and the site that gives it its meaning.
struct Binding {
  std::shared_ptr<const Site> site;
  Geometry geometry;
};

/// A weight whose products our kernels compute wherever no adapter takes part.
struct AcceleratedWeight {
  Geometry geometry;
  const at::TensorImpl* leaf;  ///< only compared with, never read
  std::weak_ptr<DeferredGradient> deferred;

  /// Where this weight's gradient may be left as a product; empty unless `of_leaf` is this weight.
  std::weak_ptr<DeferredGradient> deferred_for(const at::TensorImpl* of_leaf) const;
};

struct CompactWeight;

struct StorageContext {
  at::DataPtr original;
  /// What the storage stands for if its tensor is a shell (compact_weight.h).
  std::shared_ptr<const CompactWeight> compact;
  std::vector<Binding> bindings;
  std::vector<AcceleratedWeight> accelerated;

  /// The storage's context, or null.
  static StorageContext* of(const c10::Storage& storage);
  /// The storage's context; makes one if there is none.
  static StorageContext& make(const c10::Storage& storage);
  /// Gives the storage its original DataPtr back.
  static void remove(const c10::Storage& storage);

  /// The accelerated weight with exactly the layout of `tensor`, or of its transpose; null if there
  /// is none.
  const AcceleratedWeight* find_accelerated(const at::Tensor& tensor, bool transposed) const;
};

}  // namespace lowrank::effective
