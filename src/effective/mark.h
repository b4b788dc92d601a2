#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <vector>

#include "effective/deferred_gradient.h"
#include "effective/selection.h"

/// How an adapter gets into an unmodified model: a *marked* tensor means W + s·B·A to every
/// operator that reads it, while its storage holds W.
///
/// The mark is one dispatch key in the tensor's own key set (`kMark`, above Autograd and
/// Autocast), so models without an adapter never reach this code. What the tensor means is found
/// through its storage: the storage's DataPtr carries a context of ours around the original one.
/// The lookup takes no lock, every view of the weight finds it, and it lives as long as the
/// storage does.
namespace lowrank::effective {

constexpr c10::DispatchKey kMark = c10::DispatchKey::TESTING_ONLY_GenericWrapper;

/// Where in its storage a weight lies.
struct Geometry {
  int64_t offset;
  int64_t end;  ///< one past the last element it spans
  std::vector<int64_t> sizes, strides;

  static Geometry of(const at::Tensor& tensor);
  bool is(const at::Tensor& tensor) const;
  bool is_transpose_of(const at::Tensor& tensor) const;  ///< 2-D only
};

struct Binding {
  std::shared_ptr<const Site> site;
  Geometry geometry;
};

/// Who asks: an embedding's site is read by aten::embedding alone, and that operator reads no
/// linear layer's site, so that an embedding and a head may share one weight.
enum class Reader { kEmbedding, kOther };

/// Marks `weight` and makes it mean what its site says. Registers the operators on first use.
/// Throws TensorError where another bound weight of the same storage overlaps it and nothing tells
/// the two apart.
void bind(const at::Tensor& weight, std::shared_ptr<const Site> site);

/// The same for a tensor that lies as the transpose of the weight W of this site.
void bind_transposed(const at::Tensor& weight_t, std::shared_ptr<const Site> site);

/// Takes one site away; with the last one the tensor is an ordinary one again, its storage as it
/// was.
void unbind(const at::Tensor& weight, const Site& site);

/// Marks `weight` (out, in): where no adapter takes part in a product with it, the product is
/// lowrank's own (fast_linear.h), not LibTorch's, and its gradient is offered to `deferred` while
/// that lives. False, with nothing done, where it is so already.
bool bind_fast(const at::Tensor& weight, std::weak_ptr<DeferredGradient> deferred = {});
void unbind_fast(const at::Tensor& weight);
/// Whether `tensor` is the transpose of such a weight, or itself one.
bool is_fast(const at::Tensor& tensor, bool transposed);
/// Where this weight's gradient may be left as a product, if it is that of `leaf`; of nothing where
/// it may not.
std::weak_ptr<DeferredGradient> deferred_gradient_of(const at::Tensor& weight,
                                                     const at::TensorImpl* leaf);

bool is_marked(const at::Tensor& tensor);

/// Whether `weight` means what its site says: set_data() with a tensor of another kind ends that.
bool is_bound(const at::Tensor& weight, const Site& site);

/// What a marked tensor, W or any view of it, is bound to; null where it is bound to nothing that
/// this reader reads.
const Binding* find(const at::Tensor& tensor, Reader reader = Reader::kOther);

/// All sites whose weight is exactly this tensor.
std::vector<std::shared_ptr<const Site>> sites_of(const at::Tensor& tensor);
/// All whose weight's transpose it is.
std::vector<std::shared_ptr<const Site>> sites_of_transpose(const at::Tensor& tensor);

/// The same tensor (storage, version counter, autograd history) without the mark.
at::Tensor without_mark(const at::Tensor& tensor);
/// The same of a matrix's transpose, without a view where there is no history to keep.
at::Tensor transposed_without_mark(const at::Tensor& matrix);

/// How a tensor is to be read.
enum class Reading {
  kOther,   ///< as resolve() says
  kStored,  ///< as it lies: it is bound to nothing, or its adapters are off for every row and
            ///< nobody watches
  kFast,    ///< likewise, and something in its storage is_fast()
};
Reading reading_of(const at::Tensor& tensor);

/// What `tensor` means to this reader: itself where it is not marked; without the mark where its
/// adapters are off; otherwise the dense W + s·B·A under autograd, or for a view of W the same view
/// of that. Throws TensorError where a mixed batch would need more than one.
at::Tensor resolve(const at::Tensor& tensor, Reader reader = Reader::kOther);

/// Registers the fallback and the fast operators on kMark, once a process.
void register_operators();

}  // namespace lowrank::effective
