#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>

#include "effective/selection.h"
#include "effective/storage_context.h"

/// The one look at a weight: what it is bound to, which adapters hold for it now, and how an
/// operator is to compute with it. Whatever an operator reads of a weight it is given here.
namespace lowrank::effective {

/// What an operator takes a tensor for. An embedding's site is read by aten::embedding alone, and
/// that operator reads no linear layer's site, so that an embedding and a head may share a weight.
enum class Role : uint8_t {
  kMatrix,       ///< M (out, in) of a product x·Mᵀ
  kTranspose,    ///< Mᵀ (in, out) of a product
  kConvolution,  ///< a convolution's weight
  kEmbedding,    ///< the table of aten::embedding
  kValue,        ///< any other operator's argument
};

/// How the operator is to compute.
enum class Computation : uint8_t {
  kStored,       ///< with the numbers as they are stored
  kAccelerated,  ///< the same, by our kernels
  kFactored,     ///< with those, and the factors beside them: W + s·B·A is never formed
  kDense,        ///< with the dense effective weight
};

struct WeightReading {
  Computation computation = Computation::kStored;
  /// Shows the input of a product to whoever watches this weight (Meaning::observe).
  bool is_observed = false;
  const Site* site = nullptr;          ///< null where nothing is bound that this role reads
  const Geometry* geometry = nullptr;  ///< of the site's whole weight
  /// Of kMatrix and kTranspose: null where the weight is not accelerated.
  const AcceleratedWeight* accelerated = nullptr;
  /// What holds for the site; kept where it is needed later: not for what is stored and unobserved.
  std::shared_ptr<const Selection> selection;

  /// Whether no adapter takes part, for any row.
  bool is_base() const {
    return computation == Computation::kStored || computation == Computation::kAccelerated;
  }
  bool is_mixed() const { return selection != nullptr && selection->is_mixed(); }
  const Meaning& meaning() const { return selection->of(*site); }
};

/// Looks at a tensor, marked or not. A weight is read in factored form where it is exactly W, or Wᵀ
/// for Role::kTranspose (told apart by strides where it is square), of a site whose layer has this
/// role; any other view of an adapted weight is read as a dense one.
WeightReading read_weight(const at::Tensor& tensor, Role role);

/// W as it is stored, without the mark. (For Role::kTranspose the tensor itself is Wᵀ: see
/// matrix_of.)
at::Tensor stored_weight(const at::Tensor& weight);

/// M (out, in), as it is stored and without the mark, of a weight read as kMatrix or kTranspose.
at::Tensor matrix_of(const at::Tensor& weight, Role role);

/// What `tensor` means to an operator that reads it as `reading` says: itself where it is not
/// marked; without the mark where its adapters are off; otherwise the dense W + s·B·A under
/// autograd, or for a view of W the same view of that. Throws TensorError where a mixed batch would
/// need more than one.
at::Tensor effective_value(const at::Tensor& tensor, const WeightReading& reading);
at::Tensor effective_value(const at::Tensor& tensor, Role role = Role::kValue);

}  // namespace lowrank::effective
