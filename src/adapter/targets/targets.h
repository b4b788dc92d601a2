#pragma once

#include <ATen/core/Tensor.h>
#include <lowrank/adapter/lora_config.h>

#include <string>
#include <vector>

#include "adapter/targets/model_view.h"

namespace lowrank {

/// One weight that an adapter is to be attached to.
struct Target {
  std::string layer;      // dotted module path; empty where the model itself is the layer
  std::string parameter;  // "weight", or the parameter named directly: "weight_ih_l0"
  LayerKind kind = LayerKind::kLinear;
  at::Tensor weight;
  at::Tensor bias;     // the layer's own "bias"; undefined where it has none
  int64_t groups = 1;  // of a convolution
  int64_t rank = 0;    // by rank_pattern, else config.rank
  double alpha = 0;    // by alpha_pattern, else config.alpha
  double scaling = 0;  // alpha / rank, or alpha / √rank
  std::function<bool()> is_training;

  /// Whether a parameter is adapted by itself, as PEFT's target_parameters are, and not a layer.
  bool is_parameter = false;
  /// The module path, with the parameter where one is adapted: "lstm.weight_ih_l0".
  std::string path() const;
  /// The path of the MultiheadAttention that was chosen with both its weights, of which this is
  /// one; empty for all others.
  std::string attention{};
  /// The path that was chosen, by which the patterns give rank and alpha: both weights' attention,
  /// else path().
  std::string chosen_path() const { return attention.empty() ? path() : attention; }
};

/// What an adapter of this config would be attached to, in the model's order. Throws ArgumentError
/// where a name, a pattern's key or a regular expression matches nothing (with the nearest names),
/// where everything is excluded, and where a layer has no weight of two or more dimensions or its
/// kind cannot take what is asked (rank not divisible by groups, lora_bias without a bias); and
/// TensorError where two layers that nothing tells apart share a weight.
std::vector<Target> find_targets(const std::vector<ModelLayer>& layers, const LoraConfig& config);

/// Throws TensorError for a weight that two layers own where nothing tells their operators apart:
/// it would be adapted in both.
void require_unshared(const ModelLayer& owner, const std::string& parameter, LayerKind kind,
                      const std::vector<ModelLayer>& layers);

/// The parameters that modules_to_save and bias make trainable beside the factors: full path and
/// tensor, in the model's order. Throws ArgumentError where a name matches nothing, or a module has
/// buffers that its forward changes.
std::vector<std::pair<std::string, at::Tensor>> find_whole_parameters(
    const std::vector<ModelLayer>& layers, const LoraConfig& config,
    const std::vector<Target>& targets);

/// Rows of one embedding that are trained.
struct TokenRows {
  std::string layer;
  at::Tensor weight;  // (entries, width)
  at::Tensor rows;    // int64 (n), on the weight's device
};

/// What trainable_token_indices asks for. Throws ArgumentError where a name matches no Embedding,
/// "" more than one, an index is none of its rows, or the embedding is trained otherwise too.
std::vector<TokenRows> find_token_rows(const std::vector<ModelLayer>& layers,
                                       const LoraConfig& config,
                                       const std::vector<Target>& targets);

}  // namespace lowrank
