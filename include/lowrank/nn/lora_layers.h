#pragma once

#include <ATen/core/Tensor.h>
#include <lowrank/adapter/adapter.h>
#include <lowrank/export.h>
#include <torch/nn/module.h>
#include <torch/nn/modules/conv.h>
#include <torch/nn/modules/embedding.h>
#include <torch/nn/modules/linear.h>
#include <torch/nn/pimpl.h>

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

/// Layers that own their factors, in the style of loralib (Microsoft's LoRA repository,
/// loralib/layers.py), for models that are written with lowrank from the start. They behave as if
/// attach() had adapted them. An existing model does not need them: attach() adapts it as it is.
namespace lowrank::nn {

/// The fields of LoraConfig that a layer needs before its weight is loaded.
struct LoraOptions {
  int64_t rank = 8;         ///< r, at least 1
  double alpha = 8;         ///< scaling = alpha / rank; finite and not 0
  double lora_dropout = 0;  ///< fraction of A's inputs that is zeroed in training, in [0, 1)
  bool use_rslora = false;  ///< scaling = alpha / √rank instead
};

/// A LibTorch layer whose forward reads W + s·B·A. Its parameters are, in this order:
///
///     weight, bias   the LibTorch layer's, frozen
///     lora_A         (rank, in); for a convolution (rank, in, kernel...)
///     lora_B         (out, rank); for a convolution (out, rank / groups, 1...)
///
/// It also has a child without parameters, "lora". For an embedding, `in` is the number of its
/// entries. The factors start as attach() draws them, with B·A = 0. `torch::save` and `torch::load`
/// carry all four parameters under these names, and `to()` converts all four.
template <class Base, class Options>
class LOWRANK_API LoraImpl : public Base {
 public:
  /// Throws ArgumentError for an option that is out of range, and for a rank that is not a multiple
  /// of a convolution's groups.
  explicit LoraImpl(const Options& base_options, const LoraOptions& lora = {});

  /// The factors, lora_A and lora_B.
  at::Tensor lora_a() const { return adapter().layers().front().a; }
  at::Tensor lora_b() const { return adapter().layers().front().b; }

  /// The handle on the adapters of this layer, to merge, unmerge, disable and scale them and to add
  /// more (whose factors are not parameters of the layer).
  Adapter adapter() const;

  /// Returns a layer with copies of the parameters. Throws TensorError while an adapter is merged.
  std::shared_ptr<torch::nn::Module> clone(
      const c10::optional<c10::Device>& device = c10::nullopt) const override;
  /// Throws TensorError while an adapter is merged.
  void save(torch::serialize::OutputArchive& archive) const override;
  void load(torch::serialize::InputArchive& archive) override;

 private:
  Options base_options_;
};

using LinearImpl = LoraImpl<torch::nn::LinearImpl, torch::nn::LinearOptions>;
using Conv1dImpl = LoraImpl<torch::nn::Conv1dImpl, torch::nn::Conv1dOptions>;
using Conv2dImpl = LoraImpl<torch::nn::Conv2dImpl, torch::nn::Conv2dOptions>;
using EmbeddingImpl = LoraImpl<torch::nn::EmbeddingImpl, torch::nn::EmbeddingOptions>;

extern template class LoraImpl<torch::nn::LinearImpl, torch::nn::LinearOptions>;
extern template class LoraImpl<torch::nn::Conv1dImpl, torch::nn::Conv1dOptions>;
extern template class LoraImpl<torch::nn::Conv2dImpl, torch::nn::Conv2dOptions>;
extern template class LoraImpl<torch::nn::EmbeddingImpl, torch::nn::EmbeddingOptions>;

/// Holders: `lowrank::nn::Linear layer(torch::nn::LinearOptions(784, 10), LoraOptions{.rank = 4})`.
TORCH_MODULE(Linear);
TORCH_MODULE(Conv1d);
TORCH_MODULE(Conv2d);
TORCH_MODULE(Embedding);

/// Returns all lora_A and lora_B of a model's layers with their full names
/// ("encoder.query.lora_A"). These are the parameters to give to an optimizer, and those that a
/// file holds in addition to the base's.
LOWRANK_API std::vector<std::pair<std::string, at::Tensor>> lora_parameters(
    const torch::nn::Module& model);

/// Makes lora_A and lora_B the only parameters that require gradients, and freezes all others of
/// the model, in layers of any kind.
LOWRANK_API void mark_only_lora_as_trainable(const torch::nn::Module& model);

}  // namespace lowrank::nn
