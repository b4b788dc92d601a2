#include <ATen/ATen.h>
#include <fmt/format.h>
#include <lowrank/error.h>

#include <algorithm>

#include "adapter/config/name_matching.h"
#include "adapter/targets/target_choice.h"
#include "adapter/targets/targets.h"

// trainable_token_indices: rows of embeddings that are trained (PEFT, utils/other.py,
// TrainableTokensWrapper).
namespace lowrank {
namespace {

/// The name that PEFT looks for as the input embedding if transformers does not identify it.
constexpr const char* kInputEmbedding = "embed_tokens";

std::vector<const ModelLayer*> embeddings_of(const std::vector<ModelLayer>& layers,
                                             const std::string& ending) {
  std::vector<const ModelLayer*> found;
  for (const auto& layer : layers) {
    if (layer.kind == LayerKind::kEmbedding && layer.name.ends_with(ending)) {
      found.push_back(&layer);
    }
  }
  return found;
}

std::vector<const ModelLayer*> embeddings_named(const std::vector<ModelLayer>& layers,
                                                const std::string& name) {
  const auto all = embeddings_of(layers, "");
  std::vector<std::string> names;
  for (const auto* layer : all) names.push_back(layer->name);
  auto found = embeddings_of(layers, name);
  if (name.empty() && all.size() > 1) found = embeddings_of(layers, kInputEmbedding);
  if (!found.empty()) return found;
  const auto known = all.empty() ? "a model without any" : list_names(names);
  if (name.empty()) {
    fail<ArgumentError>("attach",
                        "trainable_token_indices without a name must be for one Embedding", known);
  }
  fail<ArgumentError>("attach", "each name in trainable_token_indices must match an Embedding",
                      fmt::format("\"{}\" for {}", name, known),
                      did_you_mean(name, with_endings(names)));
}

void require_trained_once(const ModelLayer& layer, const LoraConfig& config,
                          const std::vector<Target>& targets) {
  const bool adapted = std::any_of(targets.begin(), targets.end(),
                                   [&](const auto& target) { return target.layer == layer.name; });
  if (!adapted && !is_saved_whole(layer.name, config.modules_to_save)) return;
  fail<ArgumentError>(
      "attach", "trainable_token_indices must be for an Embedding that is not trained otherwise",
      fmt::format("\"{}\", which target_modules or modules_to_save match", layer.name));
}

at::Tensor rows_of(const ModelLayer& layer, const std::vector<int64_t>& indices) {
  const auto weight = layer.parameter("weight");
  const auto largest = *std::max_element(indices.begin(), indices.end());
  if (largest >= weight.size(0)) {
    fail<ArgumentError>("attach",
                        fmt::format("trainable_token_indices must be below {} for \"{}\"",
                                    weight.size(0), layer.name),
                        std::to_string(largest));
  }
  return at::tensor(indices, at::kLong).to(weight.device());
}

}  // namespace

std::vector<TokenRows> find_token_rows(const std::vector<ModelLayer>& layers,
                                       const LoraConfig& config,
                                       const std::vector<Target>& targets) {
  std::vector<TokenRows> found;
  for (const auto& [name, indices] : config.trainable_token_indices) {
    for (const auto* layer : embeddings_named(layers, name)) {
      require_trained_once(*layer, config, targets);
      require_unshared(*layer, "weight", layer->kind, layers);
      found.push_back({layer->name, layer->parameter("weight"), rows_of(*layer, indices)});
    }
  }
  return found;
}

}  // namespace lowrank
