#include "adapter/init/share_ranks.h"

#include <algorithm>
#include <utility>

#include "adapter/config/module_selector.h"
#include "adapter/init/eva.h"

namespace lowrank {
namespace {

using Names = std::vector<std::string>;

std::vector<int64_t> shared_ranks(const std::vector<Target>& targets,
                                  const std::vector<LayerData>& data, double rho) {
  std::vector<at::Tensor> ratios;
  std::vector<int64_t> ranks;
  for (size_t i = 0; i < targets.size(); ++i) {
    if (!data[i].inputs) continue;
    ratios.push_back(data[i].inputs->explained_variance_ratios());
    ranks.push_back(targets[i].rank);
  }
  return init::eva_ranks(ratios, ranks, rho);
}

void set_rank(Target& target, int64_t rank, const LoraConfig& config) {
  LoraConfig own = config;
  own.rank = rank;
  own.alpha = target.alpha;
  if (config.eva_config.adjust_scaling_factors) {
    own.alpha *= static_cast<double>(rank) / static_cast<double>(target.rank);
  }
  target.rank = own.rank;
  target.alpha = own.alpha;
  target.scaling = own.scaling();
}

/// One number of each target: as the config's own where they are all the same, else by their paths.
/// A key matches every path that ends with it, so the longest come first.
template <class T>
void set_numbers(const std::vector<Target>& targets, T Target::*number, T& common,
                 std::vector<std::pair<std::string, T>>& pattern) {
  pattern.clear();
  for (const auto& target : targets) pattern.emplace_back(target.path(), target.*number);
  if (std::all_of(pattern.begin(), pattern.end(),
                  [&](const auto& entry) { return entry.second == pattern.front().second; })) {
    common = pattern.front().second;
    pattern.clear();
  }
  std::stable_sort(pattern.begin(), pattern.end(), [](const auto& one, const auto& other) {
    return one.first.size() > other.first.size();
  });
}

/// These paths and no other layers of the model: as names, or where an ending of another path is
/// among them as an expression.
ModuleSelector exactly(const Names& paths, const std::vector<ModelLayer>& model) {
  const auto named = [&](const ModelLayer& layer) {
    return std::any_of(paths.begin(), paths.end(),
                       [&](const auto& path) { return matches_name(layer.name, path); });
  };
  const auto meant = [&](const ModelLayer& layer) {
    return std::find(paths.begin(), paths.end(), layer.name) != paths.end();
  };
  if (std::none_of(model.begin(), model.end(),
                   [&](const auto& layer) { return named(layer) && !meant(layer); })) {
    return ModuleSelector(paths);
  }
  std::string expression;
  for (const auto& path : paths) {
    if (!expression.empty()) expression += '|';
    for (const char c : path) expression += c == '.' ? std::string("\\.") : std::string(1, c);
  }
  return ModuleSelector::matching(expression);
}

}  // namespace

void share_ranks(LoraConfig& config, std::vector<Target>& targets, std::vector<LayerData>& data,
                 const std::vector<ModelLayer>& model) {
  const auto ranks = shared_ranks(targets, data, config.eva_config.rho);
  auto rank = ranks.begin();
  std::vector<Target> kept;
  std::vector<LayerData> kept_data;
  Names paths;
  for (size_t i = 0; i < targets.size(); ++i) {
    if (data[i].inputs) {
      if (*rank > 0) set_rank(targets[i], *rank, config);
      if (*rank++ == 0) continue;
    }
    paths.push_back(targets[i].path());
    kept.push_back(std::move(targets[i]));
    kept_data.push_back(std::move(data[i]));
  }
  if (kept.size() < targets.size()) {
    config.target_modules = exactly(paths, model);
    config.layers_to_transform.clear();
    config.layers_pattern.clear();
  }
  targets = std::move(kept);
  data = std::move(kept_data);
  set_numbers(targets, &Target::rank, config.rank, config.rank_pattern);
  set_numbers(targets, &Target::alpha, config.alpha, config.alpha_pattern);
}

}  // namespace lowrank
