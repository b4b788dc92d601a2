#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>

#include "effective/storage_context.h"
#include "effective/switchboard.h"

/// The one place that looks at a weight: what it is bound to, which adapters hold for it now, and
/// how an operator has to compute with it. Operators get everything they read of a weight from
/// here.
namespace lowrank::effective {

/// What an operator uses a tensor as. Only aten::embedding reads an embedding's site, and it reads
/// no linear layer's site, so that an embedding and a head may share a weight.
enum class Role : uint8_t {
  kMatrix,       ///< M (out, in) of a product x·Mᵀ
  kTranspose,    ///< Mᵀ (in, out) of a product
  kConvolution,  ///< a convolution's weight
  kEmbedding,    ///< the table of aten::embedding
  kValue,        ///< any other operator's argument
};

/// How the operator has to compute.
enum class Computation : uint8_t {
  kStored,       ///< with W as it is stored
  kAccelerated,  ///< the same, by our kernels instead of LibTorch's
  kFactored,     ///< from W and the factors: W + s·B·A is never formed
  kDense,        ///< with the dense effective weight
  kWidened,      ///< with W, widened from a compact format (compact_weight.h)
};

struct WeightReading {
  Computation computation = Computation::kStored;
  /// Whether the input of a product has to be passed to Meaning::observe.
  bool is_observed = false;
  const Site* site = nullptr;          ///< null if the weight has no site that this role reads
  const Geometry* geometry = nullptr;  ///< layout of the site's whole weight
  /// What the tensor stands for if it is a shell or a view of one, else null.
  const CompactWeight* compact = nullptr;
  /// Null unless the weight is accelerated and its role is kMatrix or kTranspose.
  const AcceleratedWeight* accelerated = nullptr;
  /// The selection that holds for the site; null where it is not needed, for a base that nobody
  /// observes.
  std::shared_ptr<const Selection> selection;

  /// Returns whether no adapter takes part in any row.
  bool is_base() const {
    return computation == Computation::kStored || computation == Computation::kAccelerated ||
           computation == Computation::kWidened;
  }
  bool is_mixed() const { return selection != nullptr && selection->is_mixed(); }
  const Meaning& meaning() const { return selection->of(*site); }
};

/// Decides how an operator reads a tensor, marked or not. The computation is factored only if the
/// tensor is exactly W, or Wᵀ for Role::kTranspose (strides tell the two apart if W is square), and
/// the layer of its site has this role. Any other view of an adapted weight is read as dense.
WeightReading read_weight(const at::Tensor& tensor, Role role);

/// W as it is stored, without the mark; widened if it is in a compact format. (For Role::kTranspose
/// the tensor itself is Wᵀ; see matrix_of.)
at::Tensor stored_weight(const at::Tensor& weight);

/// M (out, in) of a weight that is read as kMatrix or kTranspose, as it is stored and without the
/// mark. It may be a shell: layer_matrix() leads to its numbers.
at::Tensor matrix_of(const at::Tensor& weight, Role role);

/// The value of `tensor` for an operator that reads it as `reading` says. An unmarked tensor is
/// returned as it is, and a tensor whose adapters are off without its mark. Otherwise this is the
/// dense W + s·B·A under autograd, or the same view of it if `tensor` is a view of W. Throws
/// TensorError if a mixed batch would need more than one value.
at::Tensor effective_value(const at::Tensor& tensor, const WeightReading& reading);
at::Tensor effective_value(const at::Tensor& tensor, Role role = Role::kValue);

}  // namespace lowrank::effective
