#pragma once

#include <ATen/core/Tensor.h>
#include <lowrank/adapter/adapter.h>
#include <lowrank/adapter/lora_config.h>

#include <string>
#include <vector>

#include "adapter/targets/model_view.h"

namespace lowrank {

/// One weight that an adapter is to be attached to.
struct Target {
  std::string layer;      // dotted module path; empty if the model itself is the layer
  std::string parameter;  // "weight", or the parameter named directly: "weight_ih_l0"
  LayerKind kind = LayerKind::kLinear;
  at::Tensor weight;
  at::Tensor bias;     // the layer's own "bias"; undefined if it has none
  int64_t groups = 1;  // of a convolution
  int64_t rank = 0;    // from rank_pattern, otherwise config.rank
  double alpha = 0;    // from alpha_pattern, otherwise config.alpha
  double scaling = 0;  // alpha / rank, or alpha / √rank
  std::function<bool()> is_training;

  /// Whether a single parameter is adapted, like PEFT's target_parameters, rather than a layer.
  bool is_parameter = false;
  /// The module path and, if is_parameter, the parameter: "lstm.weight_ih_l0".
  std::string path() const;
  /// The path of the MultiheadAttention if both its weights were chosen together and this is one of
  /// them; otherwise empty.
  std::string attention{};
  /// The path by which the patterns give rank and alpha: the attention's if both its weights were
  /// chosen together, otherwise path().
  std::string chosen_path() const { return attention.empty() ? path() : attention; }
};

/// The elements of A and B in PEFT's shapes (tuners/lora/layer.py). In a convolution, A reads all
/// input channels and B is split into the groups.
int64_t factor_elements(const Target& target);

/// Returns the weights that an adapter with this config would be attached to, in the model's order.
/// Throws ArgumentError if a name, a pattern's key or a regular expression matches nothing (with
/// the nearest names), if everything is excluded, if a layer has no weight of two or more
/// dimensions, and if its kind does not allow what is asked (a rank that is not divisible by the
/// groups, lora_bias without a bias). Throws TensorError if two layers share a weight and their
/// operators cannot be told apart. With `unmatched`, entries that match nothing are added to it
/// instead, as long as there is any target.
std::vector<Target> find_targets(const std::vector<ModelLayer>& layers, const LoraConfig& config,
                                 std::vector<UnmatchedEntry>* unmatched = nullptr);

/// Throws TensorError if another layer shares this weight and its operators cannot be told apart
/// from the owner's, because the weight would then be adapted in both layers.
void require_unshared(const ModelLayer& owner, const std::string& parameter, LayerKind kind,
                      const std::vector<ModelLayer>& layers);

/// A parameter of the model that is trained in full, or running statistics that go with it.
struct WholeTarget {
  std::string path;
  at::Tensor tensor;
  bool is_statistic = false;
};

/// Returns the parameters that modules_to_save and bias make trainable in addition to the factors:
/// with the running statistics of such modules, in the model's order. Throws ArgumentError if a
/// name matches nothing, unless `unmatched` takes it.
std::vector<WholeTarget> find_whole_parameters(const std::vector<ModelLayer>& layers,
                                               const LoraConfig& config,
                                               const std::vector<Target>& targets,
                                               std::vector<UnmatchedEntry>* unmatched = nullptr);

/// Rows of one embedding that are trained.
struct TokenRows {
  std::string layer;
  at::Tensor weight;  // (entries, width)
  at::Tensor rows;    // int64 (n), on the weight's device
};

/// Returns the rows that trainable_token_indices asks for. Throws ArgumentError if a name matches
/// no Embedding, if "" matches more than one, if an index is not that of a row, or if the embedding
/// is also trained in another way.
std::vector<TokenRows> find_token_rows(const std::vector<ModelLayer>& layers,
                                       const LoraConfig& config,
                                       const std::vector<Target>& targets);

}  // namespace lowrank
