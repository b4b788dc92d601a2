#include "weights/new_layers.h"

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <lowrank/error.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <string_view>
#include <tuple>
#include <utility>

namespace lowrank {
namespace {

using RankAndAlpha = std::pair<int64_t, double>;

RankAndAlpha rank_and_alpha(const NewLayer& layer, bool use_rslora) {
  const auto rank = layer.a.size(0);
  const auto divisor = static_cast<double>(rank);
  return {rank, layer.scaling * (use_rslora ? std::sqrt(divisor) : divisor)};
}

/// The keys of rank_pattern are regular expressions. PEFT leaves the dots of a path as they are.
std::string key_of(const std::string& path) {
  const bool is_plain = path.find_first_of("\\^$*+?()[]{}|") == std::string::npos;
  return is_plain ? path : escaped(path);
}

}  // namespace

std::string escaped(const std::string& path) {
  std::string regex;
  for (const char c : path) {
    if (std::string_view(".^$*+?()[]{}|\\").find(c) != std::string_view::npos) regex += '\\';
    regex += c;
  }
  return regex;
}

NewLayer factored(const Svd& update, int64_t rank, const FactorForm& form) {
  const auto values = update.s.narrow(0, 0, rank).div(std::abs(form.scaling));
  const auto one = at::ones_like(values), roots = values.sqrt();
  const bool balanced = form.split == SplitScale::kBalanced;
  const auto of_b = balanced ? roots : form.split == SplitScale::kB ? values : one;
  const auto of_a = balanced ? roots : form.split == SplitScale::kA ? values : one;
  NewLayer layer;
  layer.scaling = form.scaling;
  layer.b = update.u.narrow(1, 0, rank).mul(form.scaling < 0 ? -of_b : of_b);
  layer.b = layer.b.to(form.dtype_b).contiguous();
  layer.a = update.v.narrow(1, 0, rank).mul(of_a).t().to(form.dtype_a).contiguous();
  return layer;
}

void require_measured(const char* operation, const LayerError& error) {
  if (std::isfinite(error.norm) && std::isfinite(error.frobenius) &&
      std::isfinite(error.spectral)) {
    return;
  }
  fail<TensorError>(
      operation, fmt::format("the update of \"{}\" must have norms that float64 holds", error.name),
      "numbers that are too large");
}

bool is_caught(const std::string& path, const std::set<std::string>& names) {
  for (auto dot = path.find('.'); dot != std::string::npos; dot = path.find('.', dot + 1)) {
    if (names.contains(path.substr(dot + 1))) return true;
  }
  return false;
}

void set_ranks(LoraConfig& config, const std::vector<NewLayer>& layers) {
  std::map<RankAndAlpha, int64_t> counts;
  for (const auto& layer : layers) ++counts[rank_and_alpha(layer, config.use_rslora)];
  const auto most =
      std::max_element(counts.begin(), counts.end(),
                       [](const auto& x, const auto& y) { return x.second < y.second; });
  config.rank_pattern.clear();
  config.alpha_pattern.clear();
  if (most == counts.end()) return;
  std::tie(config.rank, config.alpha) = most->first;
  // A key matches the end of a path, and the first that matches counts. So longer paths come first,
  // and a layer whose path ends with that of an exception is named as well.
  auto by_length = layers;
  std::stable_sort(by_length.begin(), by_length.end(),
                   [](const auto& x, const auto& y) { return x.path.size() < y.path.size(); });
  std::vector<std::pair<std::string, RankAndAlpha>> named;
  std::set<std::string> names;
  for (const auto& layer : by_length) {
    const auto own = rank_and_alpha(layer, config.use_rslora);
    if (own == most->first && !is_caught(layer.path, names)) continue;
    named.emplace_back(layer.path, own);
    names.insert(layer.path);
  }
  std::reverse(named.begin(), named.end());
  for (const auto& [path, own] : named) {
    config.rank_pattern.emplace_back(key_of(path), own.first);
    config.alpha_pattern.emplace_back(key_of(path), own.second);
  }
}

}  // namespace lowrank
