#pragma once

#include <functional>
#include <optional>

#include "effective/mark.h"

/// A layer's output from its factors, operator by operator under autograd: what the linear layers,
/// convolutions and embeddings have in common.
namespace lowrank::effective {

using OptionalTensor = c10::optional<at::Tensor>;  // std::optional from LibTorch 2 on

/// One operator's look at a weight: its site, and what holds for it now.
struct Use {
  const Site* site = nullptr;
  std::shared_ptr<const Selection> selection;

  const Meaning& meaning() const { return selection->of(*site); }
  /// The base alone, for every row.
  bool is_off() const { return !selection->is_mixed() && meaning().is_base(); }
  /// Something that only a dense weight expresses: the tensor is replaced.
  bool is_replaced() const { return !selection->is_mixed() && meaning().replacement.defined(); }
};

/// Whether a tensor lies as the matrix M (out, in) that factors are made for, or as its transpose.
enum class Side { kMatrix, kTranspose };

/// For a weight that is exactly M or Mᵀ of a linear site (told apart by strides where it is
/// square); nothing for any other view, which takes the general path.
std::optional<Use> use_of_matrix(const at::Tensor& weight, Side side);
/// For a weight that is exactly that of a site of this form, or in a mixed batch of one that its
/// adapters replace and add nothing to.
std::optional<Use> use_of_whole(const at::Tensor& weight, Form form);

/// Throws TensorError for a weight that became one of inference mode (module.to() inside of it):
/// nothing can be trained through it.
void require_trainable(const at::Tensor& weight, const Site& site);

/// What `bias` means to an operator that takes the rows of a mixed batch apart itself: in such a
/// batch its base. Undefined where there is none.
at::Tensor bias_for(const OptionalTensor& bias, const Use& use);

/// The use of a bias while a mixed batch holds for it; nothing otherwise.
std::optional<Use> mixed_bias(const at::Tensor& bias);
/// y (N, ..., out) of a linear layer + what each part of the batch adds to its base bias, in the
/// part's rows.
at::Tensor add_bias_by_row(const at::Tensor& y, const at::Tensor& bias, const Use& use);
/// The same into y itself.
void add_bias_by_row_(const at::Tensor& y, const at::Tensor& bias, const Use& use);

/// How a layer applies a matrix.
struct Layer {
  /// x·Wᵀ without a bias, for a weight that lies as the layer's own.
  std::function<at::Tensor(const at::Tensor& x, const at::Tensor& weight)> base;
  /// (x·Aᵀ)·Bᵀ.
  std::function<at::Tensor(const at::Tensor& x, const at::Tensor& a, const at::Tensor& b)> low;
  /// A vector (out) in the shape that scales an output.
  std::function<at::Tensor(const at::Tensor& vector)> by_output;
  /// Adds what these terms add to a few rows of a mixed batch, in place; false, with y untouched,
  /// where it cannot. Empty: it never can.
  std::function<bool(const at::Tensor& y, const at::Tensor& x, const std::vector<int64_t>& rows,
                     const std::vector<Term>& terms)>
      add_to_rows = {};
};

/// y + what the site's terms add, in y's dtype; in a mixed batch to each part's rows what that part
/// adds (the marked `bias` included). `weight` is W without its mark. Throws TensorError where x
/// has another number of rows than the mixed batch.
at::Tensor add_terms(const at::Tensor& y, const at::Tensor& x, const at::Tensor& weight,
                     const OptionalTensor& bias, const Use& use, const Layer& layer);

}  // namespace lowrank::effective
