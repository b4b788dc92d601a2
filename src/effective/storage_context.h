#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <vector>

#include "effective/deferred_gradient.h"
#include "effective/meaning.h"

/// What is known of the weights in one storage. The storage's DataPtr carries it around the
/// original one: the lookup takes no lock, every view of a weight finds it, and it lives as long as
/// the storage does.
namespace lowrank::effective {

/// Where in its storage a weight lies.
struct Geometry {
  int64_t offset;
  int64_t end;  ///< one past the last element it spans
  std::vector<int64_t> sizes, strides;

  static Geometry of(const at::Tensor& tensor);
  bool is(const at::Tensor& tensor) const;
  bool is_transpose_of(const at::Tensor& tensor) const;  ///< 2-D only
  /// Whether the tensor begins within this weight.
  bool holds(const at::Tensor& tensor) const;
};

/// A weight that means what its site says.
struct Binding {
  std::shared_ptr<const Site> site;
  Geometry geometry;
};

/// A weight whose products are computed by our kernels where no adapter takes part.
struct AcceleratedWeight {
  Geometry geometry;
  const at::TensorImpl* leaf;  ///< only to compare with
  std::weak_ptr<DeferredGradient> deferred;

  /// Where the weight's gradient may be left as a product, if it is that of `of_leaf`.
  std::weak_ptr<DeferredGradient> deferred_for(const at::TensorImpl* of_leaf) const;
};

struct StorageContext {
  at::DataPtr original;
  std::vector<Binding> bindings;
  std::vector<AcceleratedWeight> accelerated;

  /// Null where the storage has none.
  static StorageContext* of(const c10::Storage& storage);
  /// Makes one where the storage has none.
  static StorageContext& make(const c10::Storage& storage);
  /// Gives the storage its own DataPtr back.
  static void remove(const c10::Storage& storage);

  /// The accelerated weight that lies exactly as `tensor`, or as its transpose; else null.
  const AcceleratedWeight* find_accelerated(const at::Tensor& tensor, bool transposed) const;
};

}  // namespace lowrank::effective
