#include "adapter/init/eva_ranks.h"

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <lowrank/error.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "adapter/config/name_matching.h"

namespace lowrank {
namespace init {
namespace {

struct Component {
  double ratio;
  size_t layer;
};

}  // namespace

int64_t eva_components(int64_t rank, double rho) {
  if (rank < 1) {
    fail<ArgumentError>("eva", "the rank must be at least 1", fmt::format("{}", rank));
  }
  if (!(std::isfinite(rho) && rho >= 1)) {
    fail<ArgumentError>("eva", "rho must be finite and at least 1", fmt::format("{}", rho));
  }
  return static_cast<int64_t>(std::nearbyint(static_cast<double>(rank) * rho));
}

std::vector<int64_t> eva_ranks(const std::vector<at::Tensor>& ratios,
                               const std::vector<int64_t>& ranks, double rho) {
  if (ratios.size() != ranks.size()) {
    fail<ArgumentError>("eva", fmt::format("there must be ratios for {} layers", ranks.size()),
                        fmt::format("{}", ratios.size()));
  }
  std::vector<Component> all;
  size_t budget = 0;
  for (size_t layer = 0; layer < ranks.size(); ++layer) {
    const auto ratio = ratios[layer].to(at::kCPU, at::kDouble);
    const int64_t most = std::min(eva_components(ranks[layer], rho), ratio.size(0));
    for (int64_t i = 0; i < most; ++i) all.push_back({ratio[i].item<double>(), layer});
    budget += static_cast<size_t>(ranks[layer]);
  }
  std::stable_sort(all.begin(), all.end(), [](const Component& left, const Component& right) {
    return left.ratio > right.ratio;
  });
  all.resize(std::min(budget, all.size()));
  std::vector<int64_t> result(ranks.size(), 0);
  for (const auto& component : all) ++result[component.layer];
  return result;
}

}  // namespace init

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

/// Writes one number per target to the config: as the common value if they are all equal, otherwise
/// as a pattern of their paths. A key matches every path that ends with it, so the longest keys
/// come first.
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

/// Returns a selector of exactly these layers of the model: their paths as names or, if one of the
/// paths is also the end of another layer's path, a regular expression.
ModuleSelector selector_matching_only(const Names& paths, const std::vector<ModelLayer>& model) {
  const auto named = [&](const ModelLayer& layer) {
    return std::any_of(paths.begin(), paths.end(),
                       [&](const auto& path) { return matches_name(layer.name, path); });
  };
  const auto meant = [&](const ModelLayer& layer) {
    return std::find(paths.begin(), paths.end(), layer.name) != paths.end();
  };
  if (std::none_of(model.begin(), model.end(),
                   [&](const auto& layer) { return named(layer) && !meant(layer); })) {
    return paths;
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
    config.target_modules = selector_matching_only(paths, model);
    config.layers_to_transform.clear();
    config.layers_pattern.clear();
  }
  targets = std::move(kept);
  data = std::move(kept_data);
  set_numbers(targets, &Target::rank, config.rank, config.rank_pattern);
  set_numbers(targets, &Target::alpha, config.alpha, config.alpha_pattern);
}

}  // namespace lowrank
