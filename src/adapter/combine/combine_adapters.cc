#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <c10/core/InferenceMode.h>
#include <fmt/format.h>
#include <lowrank/error.h>

#include <algorithm>
#include <set>

#include "adapter/combine/combine_factors.h"
#include "adapter/state.h"

// Combines several adapters of a model into a new one.
namespace lowrank {
namespace {

/// Throws ArgumentError for an adapter that a sum of low-rank updates cannot represent.
void require_plain(const NamedAdapter& adapter) {
  const auto& config = adapter.config;
  const bool taken_off = subtracts_from_base(adapter);
  const bool has_experts =
      std::any_of(adapter.layers.begin(), adapter.layers.end(),
                  [](const auto& layer) { return are_experts(layer.target.kind); });
  const char* found = config.use_dora          ? "DoRA's magnitudes"
                      : config.lora_bias       ? "lora_bias"
                      : !adapter.whole.empty() ? "modules or biases that are trained in full"
                      : taken_off   ? "an initialisation that is subtracted from the base"
                      : has_experts ? "the packed factors of experts"
                                    : nullptr;
  if (found == nullptr) return;
  fail<ArgumentError>(
      "combine", "adapters to combine must consist of factors alone",
      fmt::format("\"{}\", with {}", adapter.name, found),
      taken_off ? "Save it converted (SaveOptions::convert) and load it again." : "");
}

struct Part {
  const LayerFactors* layer;
  ScaledFactors factors;
  double weight;
};

/// The parts of one layer, in the order of the adapters.
std::vector<Part> parts_of(size_t site, const std::vector<const NamedAdapter*>& adapters,
                           const std::vector<double>& weights) {
  std::vector<Part> parts;
  for (size_t i = 0; i < adapters.size(); ++i) {
    for (const auto& layer : adapters[i]->layers) {
      if (layer.site != site) continue;
      parts.push_back({&layer,
                       {layer.a.detach(), layer.b.detach(), term_of(layer, *adapters[i]).scaling},
                       weights[i]});
    }
  }
  return parts;
}

LayerFactors combine_layer(const std::vector<Part>& parts, const CombineOptions& options) {
  std::vector<ScaledFactors> inputs;
  std::vector<double> weights;
  for (const auto& part : parts) {
    inputs.push_back(part.factors);
    weights.push_back(part.weight);
  }
  const auto result = combine_factors(inputs, weights, options);
  LayerFactors layer = *parts.front().layer;
  layer.a = result.a.contiguous().requires_grad_();
  layer.b = result.b.contiguous().requires_grad_();
  layer.target.rank = layer.a.size(0);
  layer.target.alpha = static_cast<double>(layer.target.rank) * result.scaling;
  layer.target.scaling = result.scaling;
  return layer;
}

/// In a file, the two weights of an attention have the same rank and alpha. If theirs differ, each
/// of them becomes a target of its own.
void split_unequal_attentions(std::vector<LayerFactors>& layers) {
  for (auto& layer : layers) {
    auto& target = layer.target;
    if (target.attention.empty()) continue;
    const auto pair = std::count_if(layers.begin(), layers.end(), [&](const auto& other) {
      return other.target.attention == target.attention && other.target.rank == target.rank &&
             other.target.alpha == target.alpha;
    });
    if (pair == 2) continue;
    const auto attention = target.attention;
    for (auto& other : layers) {
      if (other.target.attention != attention) continue;
      other.target.is_parameter = other.target.layer == attention;
      other.target.attention.clear();
    }
  }
}

/// Returns a config that gives each of these layers its rank, and an alpha that is equal to it.
LoraConfig config_of(const std::vector<LayerFactors>& layers) {
  LoraConfig config;
  config.target_modules = ModuleSelector();
  config.rank = 0;
  for (const auto& layer : layers) config.rank = std::max(config.rank, layer.target.rank);
  config.alpha = static_cast<double>(config.rank);
  for (const auto& layer : layers) {
    const auto path = layer.target.chosen_path();
    auto& names = config.target_modules.names;
    if (std::find(names.begin(), names.end(), path) != names.end()) continue;
    names.push_back(path);
    if (layer.target.rank == config.rank) continue;
    config.rank_pattern.emplace_back(path, layer.target.rank);
    config.alpha_pattern.emplace_back(path, layer.target.alpha);
  }
  return config;
}

}  // namespace

void Adapter::combine(const std::string& name, const std::vector<std::string>& names,
                      const std::vector<double>& weights, const CombineOptions& options) {
  const StateLock lock(state_->mutex);
  check_name(*state_, name);
  check(options);
  if (names.empty() || names.size() != weights.size()) {
    fail<ArgumentError>("combine", "there must be at least one adapter, and a weight for each",
                        fmt::format("{} names and {} weights", names.size(), weights.size()));
  }
  std::vector<const NamedAdapter*> adapters;
  for (const auto& of : names) {
    adapters.push_back(&std::as_const(*state_).adapter(of));
    require_plain(*adapters.back());
  }
  const c10::InferenceMode normal(false);  // inference tensors cannot be trained
  const at::NoGradGuard no_grad;
  NamedAdapter combined;
  combined.name = name;
  auto layer_options = options;
  for (size_t site = 0; site < state_->tensors.size(); ++site) {
    const auto parts = parts_of(site, adapters, weights);
    if (parts.empty()) continue;
    // With one seed, layers of the same shape would drop the same entries.
    layer_options.seed = options.seed + site;
    combined.layers.push_back(combine_layer(parts, layer_options));
  }
  split_unequal_attentions(combined.layers);
  combined.config = config_of(combined.layers);
  put_adapter(*state_, std::move(combined));
}

}  // namespace lowrank
