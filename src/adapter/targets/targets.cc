#include "adapter/targets/targets.h"

#include <ATen/ATen.h>
#include <fmt/ranges.h>
#include <lowrank/error.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "adapter/config/name_matching.h"
#include "adapter/targets/target_choice.h"

namespace lowrank {
namespace {

std::string path_of(const std::string& layer, const std::string& parameter) {
  return dotted_path(layer, parameter);
}

/// Returns whether the operators of two layers that share a weight can be told apart. A product and
/// a look-up are different operators, so the input and the output embedding of a language model may
/// be one tensor.
bool told_apart(LayerKind one, LayerKind other) {
  return (one == LayerKind::kEmbedding) != (other == LayerKind::kEmbedding) &&
         (one == LayerKind::kLinear || other == LayerKind::kLinear);
}

/// Returns whether the parameter itself was named. "weight" stands for its layer, unless a name in
/// target_modules includes it. A model that is itself the layer can be named in no other way.
bool is_named_directly(const ModelLayer& layer, const std::string& parameter,
                       const LoraConfig& config) {
  if (parameter != "weight") return true;
  const auto& names = config.target_modules.names;
  const auto path = path_of(layer.name, parameter);
  return !layer.name.empty() && std::any_of(names.begin(), names.end(), [&](const auto& name) {
    return matches_name(path, name);
  });
}

/// How PEFT treats a parameter that is named directly, whatever layer it belongs to: B·A has the
/// orientation of the parameter, and a parameter of three dimensions holds one matrix for each
/// expert (tuners/lora/layer.py, ParamWrapper).
LayerKind kind_of_parameter(const ModelLayer& layer, const at::Tensor& weight) {
  if (layer.kind == LayerKind::kLinear && weight.is_same(layer.parameter("weight"))) {
    return LayerKind::kLinear;
  }
  if (weight.dim() != 3) return LayerKind::kOther;
  return layer.is_transposed ? LayerKind::kTransposedExperts : LayerKind::kExperts;
}

void require_fit(const Target& target, const LoraConfig& config) {
  if (config.use_dora && are_experts(target.kind)) {
    fail<ArgumentError>("attach", "use_dora must be for layers of one matrix",
                        fmt::format("\"{}\" of {} experts", target.path(), target.weight.size(0)));
  }
  if (target.kind == LayerKind::kConv && target.rank % target.groups != 0) {
    fail<ArgumentError>(
        "attach", "the rank must be a multiple of a convolution's groups",
        fmt::format("rank {} for \"{}\" of {} groups", target.rank, target.path(), target.groups));
  }
  if (config.lora_bias && !target.bias.defined()) {
    fail<ArgumentError>("attach", "lora_bias must be for layers that have a bias",
                        fmt::format("\"{}\", which has none", target.path()),
                        "Without one it could not be merged.");
  }
}

/// Every key must match a target. One that matches nothing is a typo (PEFT does not complain).
template <class T>
void require_used(const std::vector<std::pair<std::string, T>>& pattern, const FirstMatch<T>& keys,
                  const std::vector<Target>& targets, const char* what,
                  std::vector<UnmatchedEntry>* unmatched) {
  std::vector<std::string> names;
  for (const auto& target : targets) names.push_back(target.chosen_path());
  for (size_t i = 0; i < pattern.size(); ++i) {
    if (std::any_of(names.begin(), names.end(),
                    [&](const auto& name) { return keys.key_matches(i, name); })) {
      continue;
    }
    if (unmatched != nullptr) {
      unmatched->push_back({what, pattern[i].first});
      continue;
    }
    fail<ArgumentError>(
        "attach", fmt::format("each key of {} must match an adapted layer", what),
        fmt::format("\"{}\", which matches none of {}", pattern[i].first, list_names(names)),
        did_you_mean(pattern[i].first, with_endings(names)));
  }
}

void set_ranks(std::vector<Target>& targets, const LoraConfig& config,
               std::vector<UnmatchedEntry>* unmatched) {
  const FirstMatch<int64_t> ranks(config.rank_pattern, "rank_pattern");
  const FirstMatch<double> alphas(config.alpha_pattern, "alpha_pattern");
  require_used(config.rank_pattern, ranks, targets, "rank_pattern", unmatched);
  require_used(config.alpha_pattern, alphas, targets, "alpha_pattern", unmatched);
  LoraConfig own = config;
  for (auto& target : targets) {
    own.rank = target.rank = ranks.value_for(target.chosen_path(), config.rank);
    own.alpha = target.alpha = alphas.value_for(target.chosen_path(), config.alpha);
    target.scaling = own.scaling();
  }
}

Target make_target(const ModelLayer& layer, const std::string& parameter,
                   const LoraConfig& config) {
  Target target;
  target.layer = layer.name;
  target.parameter = parameter;
  target.weight = layer.parameter(parameter);
  target.is_training = layer.is_training;
  target.is_parameter = is_named_directly(layer, parameter, config);
  target.kind = target.is_parameter ? kind_of_parameter(layer, target.weight) : layer.kind;
  if (target.is_parameter) return target;
  target.groups = layer.groups;
  target.bias = layer.parameter("bias");
  return target;
}

/// Records that the weight was chosen with its attention, and not named directly.
void set_attention(Target& target, const ModelLayer& attention) {
  target.attention = attention.name;
  target.is_parameter = false;
}

}  // namespace

void require_unshared(const ModelLayer& owner, const std::string& parameter, LayerKind kind,
                      const std::vector<ModelLayer>& layers) {
  const auto tensor = owner.parameter(parameter);
  for (const auto& other : layers) {
    if (other.name == owner.name || told_apart(kind, other.kind)) continue;
    for (const auto& [name, shared] : other.parameters) {
      if (!shared.is_alias_of(tensor) || shared.storage_offset() != tensor.storage_offset()) {
        continue;
      }
      fail<TensorError>("attach", "an adapted weight must belong to one layer",
                        fmt::format("\"{}\" and \"{}\", which are one tensor",
                                    path_of(owner.name, parameter), path_of(other.name, name)),
                        "Untie them first (give one a clone of the weight).");
    }
  }
}

int64_t factor_elements(const Target& target) {
  const auto rows = target.weight.size(0);
  const auto columns = rows == 0 ? 0 : target.weight.numel() / rows;
  if (are_experts(target.kind)) {
    return target.rank * rows * (target.weight.size(1) + target.weight.size(2));
  }
  if (target.kind != LayerKind::kConv) return target.rank * (rows + columns);
  return target.rank * columns * target.groups + rows * (target.rank / target.groups);
}

std::string Target::path() const { return is_parameter ? path_of(layer, parameter) : layer; }

std::vector<Target> find_targets(const std::vector<ModelLayer>& layers, const LoraConfig& config,
                                 std::vector<UnmatchedEntry>* unmatched) {
  check(config);
  std::vector<Target> targets;
  for (const auto& chosen : choose_targets(layers, config, unmatched)) {
    const auto& layer = layers[chosen.layer];
    const auto& name = layer.parameters[chosen.parameter].first;
    targets.push_back(make_target(layer, name, config));
    if (chosen.attention) set_attention(targets.back(), layers[*chosen.attention]);
    require_unshared(layer, name, targets.back().kind, layers);
  }
  set_ranks(targets, config, unmatched);
  for (const auto& target : targets) require_fit(target, config);
  return targets;
}

}  // namespace lowrank
