#include <ATen/ATen.h>
#include <fmt/format.h>
#include <lowrank/error.h>

#include <algorithm>
#include <set>

#include "adapter/config/name_matching.h"
#include "adapter/targets/target_choice.h"
#include "adapter/targets/targets.h"

namespace lowrank {
namespace {

/// PEFT writes both names for every classification model, although a model has only one of them.
bool is_spare_head(const std::string& name, const std::vector<std::string>& modules_to_save) {
  const auto listed = [&](const char* head) {
    return std::find(modules_to_save.begin(), modules_to_save.end(), head) != modules_to_save.end();
  };
  return (name == "score" && listed("classifier")) || (name == "classifier" && listed("score"));
}

void require_matched(const std::vector<ModelLayer>& layers, const LoraConfig& config,
                     std::vector<UnmatchedEntry>* unmatched) {
  std::vector<std::string> names;
  for (const auto& layer : layers) {
    if (!layer.parameters.empty() && !layer.name.empty()) names.push_back(layer.name);
  }
  bool any = false;
  for (const auto& name : config.modules_to_save) {
    const bool matched = std::any_of(layers.begin(), layers.end(), [&](const ModelLayer& layer) {
      return !layer.parameters.empty() && is_saved_whole(layer.name, {name});
    });
    any = any || matched;
    if (matched || is_spare_head(name, config.modules_to_save)) continue;
    if (unmatched != nullptr) {
      unmatched->push_back({"modules_to_save", name});
      continue;
    }
    fail<ArgumentError>("attach", "each of modules_to_save must match a module with parameters",
                        fmt::format("\"{}\", which matches none of {}", name, list_names(names)),
                        did_you_mean(name, with_endings(names)));
  }
  if (any || unmatched != nullptr || config.modules_to_save.empty()) return;
  fail<ArgumentError>("attach", "modules_to_save must match a module with parameters",
                      fmt::format("{}, which match none of {}", list_names(config.modules_to_save),
                                  list_names(names)));
}

}  // namespace

std::vector<WholeTarget> find_whole_parameters(const std::vector<ModelLayer>& layers,
                                               const LoraConfig& config,
                                               const std::vector<Target>& targets,
                                               std::vector<UnmatchedEntry>* unmatched) {
  require_matched(layers, config, unmatched);
  std::set<std::string> adapted;
  for (const auto& target : targets) {
    if (!target.is_parameter) adapted.insert(target.layer);
  }
  std::vector<WholeTarget> found;
  for (const auto& layer : layers) {
    const bool whole = is_saved_whole(layer.name, config.modules_to_save);
    // PEFT keeps only what is called "bias", not bias_ih_l0 or in_proj_bias.
    const bool bias = config.bias == BiasMode::kAll ||
                      (config.bias == BiasMode::kLoraOnly && adapted.contains(layer.name));
    for (const auto& [name, tensor] : layer.parameters) {
      if (!whole && !(bias && name == "bias")) continue;
      require_unshared(layer, name, layer.kind, layers);
      found.push_back({dotted_path(layer.name, name), tensor});
    }
    if (!whole) continue;
    for (const auto& [name, tensor] : layer.statistics()) {
      found.push_back({dotted_path(layer.name, name), tensor, /*is_statistic=*/true});
    }
  }
  return found;
}

}  // namespace lowrank
