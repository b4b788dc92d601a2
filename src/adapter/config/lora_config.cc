#include <fmt/format.h>
#include <lowrank/adapter/lora_config.h>
#include <lowrank/error.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <nlohmann/json.hpp>
#include <set>

#include "adapter/config/name_matching.h"
#include "adapter/config/python_regex.h"

namespace lowrank {
namespace {

constexpr std::array<std::pair<LoraInit, const char*>, 9> kInitNames = {{
    {LoraInit::kKaimingUniform, "kaiming"},
    {LoraInit::kGaussian, "gaussian"},
    {LoraInit::kNormal, "normal"},
    {LoraInit::kOrthogonal, "orthogonal"},
    {LoraInit::kPissa, "pissa"},
    {LoraInit::kOlora, "olora"},
    {LoraInit::kEva, "eva"},
    {LoraInit::kCorda, "corda"},
    {LoraInit::kLoraGa, "lora_ga"},
}};
constexpr const char* kPissaNiter = "pissa_niter_";

constexpr std::array<std::pair<BiasMode, const char*>, 3> kBiasNames = {{
    {BiasMode::kNone, "none"},
    {BiasMode::kAll, "all"},
    {BiasMode::kLoraOnly, "lora_only"},
}};

[[noreturn]] void refuse(const std::string& required, const std::string& found,
                         const std::string& hint = "") {
  fail<ArgumentError>("attach", required, found, hint);
}

void check_rank(int64_t rank, const std::string& what, LoraInit init) {
  constexpr int64_t most = 1'000'000;  // far above what any layer has
  if (rank < 1) refuse(what + " must be at least 1", std::to_string(rank));
  if (rank > most) refuse(fmt::format("{} must be at most {}", what, most), std::to_string(rank));
  if (init == LoraInit::kOrthogonal && rank % 2 != 0) {
    refuse(what + " must be even with the init orthogonal", std::to_string(rank));
  }
}

void check_alpha(double alpha, const std::string& what) {
  constexpr double most = 1e30;  // within float32, with room for what it multiplies
  if (std::abs(alpha) > most && std::isfinite(alpha)) {
    refuse(fmt::format("{} must be between -{:g} and {:g}", what, most, most),
           fmt::format("{:g}", alpha));
  }
  if (std::isfinite(alpha) && alpha != 0) return;
  refuse(what + " must be finite and not 0", fmt::format("{}", alpha),
         "The update is scaled by alpha / rank.");
}

void check_names(const std::vector<std::string>& names, const std::string& what) {
  if (std::find(names.begin(), names.end(), "") == names.end()) return;
  refuse(what + " must not hold an empty name", "one");
}

void check_selector(const ModuleSelector& selector, const std::string& what) {
  check_names(selector.names, what);
  if (selector.regex.empty()) return;
  // Next to an expression, names can only stand for parameters, which an expression does not match.
  const bool both = !selector.names.empty() &&
                    (what == "exclude_modules" ||
                     std::any_of(selector.names.begin(), selector.names.end(), is_all_linear));
  if (both) {
    refuse(what + " must be names or a regular expression, not both",
           fmt::format("{} and \"{}\"", list_names(selector.names), selector.regex));
  }
  const Pattern valid(selector.regex, what);
}

template <class T>
void check_keys(const std::vector<std::pair<std::string, T>>& pattern, const std::string& what) {
  std::set<std::string> seen;
  for (const auto& [key, value] : pattern) {
    if (key.empty()) refuse(what + " must not hold an empty key", "one");
    if (!seen.insert(key).second) {
      refuse(fmt::format("the keys of {} must differ", what), fmt::format("\"{}\" twice", key));
    }
    const Pattern valid(key, fmt::format("each key of {}", what));
  }
}

void check_layers(const LoraConfig& config) {
  const auto& layers = config.layers_to_transform;
  const auto negative = std::find_if(layers.begin(), layers.end(), [](auto i) { return i < 0; });
  if (negative != layers.end()) {
    refuse("layers_to_transform must hold indices from 0", std::to_string(*negative));
  }
  if (!config.layers_pattern.empty() && layers.empty()) {
    refuse("layers_pattern must come with layers_to_transform", "no layers_to_transform");
  }
  if (!layers.empty() && !config.target_modules.regex.empty()) {
    refuse("layers_to_transform must come with names as target_modules",
           fmt::format("the regular expression \"{}\"", config.target_modules.regex),
           "Put the indices into the expression.");
  }
  check_names(config.layers_pattern, "layers_pattern");
  for (const auto& segment : config.layers_pattern) const Pattern valid(segment, "layers_pattern");
}

void check_tokens(const LoraConfig& config) {
  const auto& named = config.trainable_token_indices;
  for (const auto& [name, indices] : named) {
    if (name.empty() && named.size() > 1) {
      refuse("trainable_token_indices must name each of several embeddings", "one without a name");
    }
    if (indices.empty()) {
      refuse("trainable_token_indices must hold indices", fmt::format("none for \"{}\"", name));
    }
    std::set<int64_t> seen;
    for (const auto index : indices) {
      if (index >= 0 && seen.insert(index).second) continue;
      refuse("trainable_token_indices must hold distinct indices from 0",
             fmt::format("{}{}", index, index < 0 ? "" : " twice"));
    }
  }
}

void check_extra(const std::string& json) {
  if (json.empty()) return;
  if (nlohmann::json::parse(json, nullptr, /*allow_exceptions=*/false).is_object()) return;
  refuse("extra_json must be a JSON object", fmt::format("\"{}\"", json.substr(0, 60)));
}

void check_init(const LoraConfig& config) {
  if (config.init_iterations < 0) {
    refuse("init_iterations must be at least 0", std::to_string(config.init_iterations));
  }
  constexpr int64_t most_iterations = 1000;  // 16 is already a lot
  if (config.init_iterations > most_iterations) {
    refuse(fmt::format("the iterations of pissa_niter must be at most {}", most_iterations),
           std::to_string(config.init_iterations));
  }
  const double rho = config.eva_config.rho, gamma = config.lora_ga_config.stable_gamma;
  constexpr double most_rho = 1e6;  // it multiplies ranks
  if (!(rho >= 1 && rho <= most_rho)) {
    refuse("the rho of eva_config must be finite, at least 1 and at most 1000000",
           fmt::format("{}", rho));
  }
  if (!(std::isfinite(gamma) && gamma > 0)) {
    refuse("the stable_gamma of lora_ga_config must be finite and above 0",
           fmt::format("{}", gamma));
  }
}

void check_lora_bias(const LoraConfig& config) {
  if (!config.lora_bias) return;
  if (config.use_dora) refuse("lora_bias must come without use_dora", "both");
  if (config.init != LoraInit::kKaimingUniform && config.init != LoraInit::kNormal) {
    refuse("lora_bias must come with the init kaiming or normal", init_name(config));
  }
}

}  // namespace

double LoraConfig::scaling() const {
  return alpha / (use_rslora ? std::sqrt(static_cast<double>(rank)) : static_cast<double>(rank));
}

void check(const LoraConfig& config) {
  check_rank(config.rank, "rank", config.init);
  check_alpha(config.alpha, "alpha");
  if (config.target_modules.empty()) {
    refuse("target_modules must name at least one layer", "an empty list");
  }
  check_selector(config.target_modules, "target_modules");
  check_selector(config.exclude_modules, "exclude_modules");
  check_layers(config);
  check_keys(config.rank_pattern, "rank_pattern");
  check_keys(config.alpha_pattern, "alpha_pattern");
  for (const auto& [key, rank] : config.rank_pattern) {
    check_rank(rank, fmt::format("the rank of \"{}\" in rank_pattern", key), config.init);
  }
  for (const auto& [key, alpha] : config.alpha_pattern) {
    check_alpha(alpha, fmt::format("the alpha of \"{}\" in alpha_pattern", key));
  }
  check_names(config.modules_to_save, "modules_to_save");
  check_init(config);
  if (!(config.lora_dropout >= 0 && config.lora_dropout < 1)) {
    refuse("lora_dropout must be at least 0 and below 1", fmt::format("{}", config.lora_dropout));
  }
  check_lora_bias(config);
  check_tokens(config);
  check_extra(config.extra_json);
}

LoraConfig config_of_layer(const LoraConfig& config, const std::string& path) {
  auto own = config;
  own.rank = FirstMatch<int64_t>(config.rank_pattern, "rank_pattern").value_for(path, config.rank);
  own.alpha =
      FirstMatch<double>(config.alpha_pattern, "alpha_pattern").value_for(path, config.alpha);
  return own;
}

std::string init_name(const LoraConfig& config) {
  for (const auto& [init, name] : kInitNames) {
    if (init == config.init) return name;
  }
  return fmt::format("{}{}", kPissaNiter, config.init_iterations);
}

void set_init(LoraConfig& config, const std::string& name) {
  std::vector<std::string> names;
  for (const auto& [init, own_name] : kInitNames) {
    names.emplace_back(own_name);
    if (name != own_name) continue;
    config.init = init;
    return;
  }
  names.emplace_back("pissa_niter_16");
  const std::string digits = name.starts_with(kPissaNiter) ? name.substr(12) : "";
  int64_t iterations = 0;
  const auto* end = digits.data() + digits.size();
  const auto [stop, error] = std::from_chars(digits.data(), end, iterations);
  if (error != std::errc() || stop != end || iterations < 0) {
    refuse("init must be one of " + list_names(names, names.size()), fmt::format("\"{}\"", name),
           did_you_mean(name, names));
  }
  config.init = LoraInit::kPissaNiter;
  config.init_iterations = iterations;
}

std::string bias_name(BiasMode mode) {
  return std::find_if(kBiasNames.begin(), kBiasNames.end(),
                      [&](const auto& entry) { return entry.first == mode; })
      ->second;
}

BiasMode bias_mode(const std::string& name) {
  std::vector<std::string> names;
  for (const auto& [mode, own_name] : kBiasNames) {
    if (name == own_name) return mode;
    names.emplace_back(own_name);
  }
  refuse("bias must be one of " + list_names(names), fmt::format("\"{}\"", name),
         did_you_mean(name, names));
}

}  // namespace lowrank
