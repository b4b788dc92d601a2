#include "lora_flags.h"

#include <lowrank/error.h>

#include <charconv>
#include <cmath>
#include <utility>

#include "training_flags.h"

namespace lowrank::cli {
namespace {

using Json = nlohmann::ordered_json;
using Names = std::vector<std::string>;

constexpr const char* kGroup = "LoRA";

/// "query=16,value=4". A key may be a regular expression with commas and = in it: an entry ends
/// where a number after = does.
std::vector<std::pair<std::string, double>> parse_pattern(const std::string& flag,
                                                          const std::string& text) {
  std::vector<std::pair<std::string, double>> entries;
  size_t start = 0;
  for (size_t equals = text.find('='); equals != std::string::npos;
       equals = text.find('=', equals + 1)) {
    double value = 0;
    const auto* end = text.data() + text.size();
    const auto [stop, error] = std::from_chars(text.data() + equals + 1, end, value);
    if (error != std::errc() || (stop != end && *stop != ',')) continue;
    entries.emplace_back(text.substr(start, equals - start), value);
    start = static_cast<size_t>(stop - text.data()) + 1;
    equals = start - 1;
  }
  if (start != text.size() + 1) {
    fail<ArgumentError>("arguments", flag + " must be NAME=NUMBER,...",
                        fmt::format("\"{}\"", text));
  }
  return entries;
}

std::vector<std::pair<std::string, int64_t>> parse_ranks(const std::string& text) {
  std::vector<std::pair<std::string, int64_t>> ranks;
  for (const auto& [key, value] : parse_pattern("--rank-pattern", text)) {
    if (value != std::floor(value) || std::abs(value) > 1e9) {
      fail<ArgumentError>("arguments", "the ranks in --rank-pattern must be whole numbers",
                          fmt::format("{}", value));
    }
    ranks.emplace_back(key, static_cast<int64_t>(value));
  }
  return ranks;
}

/// A flag that takes names, separated by commas, in one word.
CLI::Option* add_names(CLI::App& app, const std::string& flag,
                       const std::function<void(const Names&)>& set, const std::string& text) {
  return app.add_option_function<Names>(flag, set, text)
      ->delimiter(',')
      ->allow_extra_args(false)
      ->type_name("NAME,...")
      ->group(kGroup);
}

CLI::Option* add_text(CLI::App& app, const std::string& flag, const std::string& type,
                      const std::function<void(const std::string&)>& set, const std::string& text) {
  return app.add_option_function<std::string>(flag, set, text)->type_name(type)->group(kGroup);
}

void add_selection(CLI::App& app, LoraConfig& config) {
  auto* targets = add_names(
      app, "--target-modules",
      [&config](const Names& names) { config.target_modules = ModuleSelector(names); },
      "Layers (or ends of their paths), or all-linear");
  targets->default_str("all-linear");
  add_text(
      app, "--target-regex", "REGEX",
      [&config](const std::string& regex) {
        config.target_modules = ModuleSelector::matching(regex);
      },
      "Layers whose whole path matches, in Python's syntax")
      ->excludes(targets);
  auto* excluded = add_names(
      app, "--exclude-modules",
      [&config](const Names& names) { config.exclude_modules = ModuleSelector(names); },
      "Layers that are left out all the same");
  add_text(
      app, "--exclude-regex", "REGEX",
      [&config](const std::string& regex) {
        config.exclude_modules = ModuleSelector::matching(regex);
      },
      "The same by one regular expression")
      ->excludes(excluded);
  app.add_option("--layers", config.layers_to_transform, "Only the layers of these numbers")
      ->delimiter(',')
      ->allow_extra_args(false)
      ->type_name("N,...")
      ->group(kGroup);
  add_names(
      app, "--layers-pattern", [&config](const Names& names) { config.layers_pattern = names; },
      "What such a number follows in a path (layers, h); any name where left out");
}

void add_ranks(CLI::App& app, LoraConfig& config) {
  app.add_option("--rank", config.rank, "Rank r of the factors")
      ->capture_default_str()
      ->group(kGroup);
  app.add_option("--alpha", config.alpha, "The update is scaled by alpha / r")
      ->capture_default_str()
      ->group(kGroup);
  add_text(
      app, "--rank-pattern", "NAME=R,...",
      [&config](const std::string& text) { config.rank_pattern = parse_ranks(text); },
      "Ranks by layer; the first name or regular expression that matches counts");
  add_text(
      app, "--alpha-pattern", "NAME=A,...",
      [&config](const std::string& text) {
        config.alpha_pattern = parse_pattern("--alpha-pattern", text);
      },
      "Alphas by layer");
  app.add_flag("--rslora", config.use_rslora, "Scale by alpha / sqrt(r)")->group(kGroup);
}

void add_form(CLI::App& app, LoraConfig& config) {
  add_text(
      app, "--init", "NAME", [&config](const std::string& name) { set_init(config, name); },
      "How the factors start: kaiming (PEFT's default), gaussian, normal, orthogonal, pissa, "
      "pissa_niter_N, olora, eva, corda or lora_ga")
      ->default_str(init_name(config));
  app.add_flag("--dora", config.use_dora, "Train magnitudes beside directions (DoRA)")
      ->group(kGroup);
  app.add_option("--dropout", config.lora_dropout, "Share of the inputs of A zeroed in training")
      ->capture_default_str()
      ->group(kGroup);
  app.add_flag("--lora-bias", config.lora_bias, "A bias on B")->group(kGroup);
  add_text(
      app, "--bias", "NAME", [&config](const std::string& name) { config.bias = bias_mode(name); },
      "Biases trained beside the factors: none, all or lora_only")
      ->default_str(bias_name(config.bias));
  add_names(
      app, "--modules-to-save", [&config](const Names& names) { config.modules_to_save = names; },
      "Modules trained whole, in a copy");
}

/// Names as a list, a regular expression as a string, as in PEFT's files.
Json to_json(const ModuleSelector& selector) {
  return selector.regex.empty() ? Json(selector.names) : Json(selector.regex);
}

ModuleSelector selector_of(const nlohmann::json& json) {
  return json.is_string() ? ModuleSelector::matching(json.get<std::string>())
                          : ModuleSelector(json.get<Names>());
}

/// [key, value] pairs: JSON's objects forget the order.
template <class T>
Json to_json(const std::vector<std::pair<std::string, T>>& pattern) {
  Json json = Json::array();
  for (const auto& [key, value] : pattern) json.push_back(Json::array({key, value}));
  return json;
}

bool given(const CLI::App& app, const char* flag) { return app.count(flag) > 0; }

}  // namespace

void add_lora_flags(CLI::App& app, LoraConfig& config) {
  // First, for flags act in the order in which they are added.
  add_text(
      app, "--config", "FILE",
      [&config](const std::string& file) { config = read_lora_config(file); },
      "A PEFT adapter_config.json to start from; the flags below override it");
  add_ranks(app, config);
  add_selection(app, config);
  add_form(app, config);
}

void take_lora(const CLI::App& app, LoraConfig& config, const nlohmann::json& run) {
  if (given(app, "--config")) return;
  take_unless_given(app, "--rank", config.rank, run.at("rank"));
  take_unless_given(app, "--alpha", config.alpha, run.at("alpha"));
  if (!given(app, "--target-modules") && !given(app, "--target-regex")) {
    config.target_modules = selector_of(run.at("target_modules"));
  }
  if (!given(app, "--exclude-modules") && !given(app, "--exclude-regex")) {
    config.exclude_modules = selector_of(run.at("exclude_modules"));
  }
  take_unless_given(app, "--layers", config.layers_to_transform, run.at("layers"));
  take_unless_given(app, "--layers-pattern", config.layers_pattern, run.at("layers_pattern"));
  take_unless_given(app, "--rank-pattern", config.rank_pattern, run.at("rank_pattern"));
  take_unless_given(app, "--alpha-pattern", config.alpha_pattern, run.at("alpha_pattern"));
  take_unless_given(app, "--modules-to-save", config.modules_to_save, run.at("modules_to_save"));
  if (!given(app, "--bias")) config.bias = bias_mode(run.at("bias").get<std::string>());
  if (!given(app, "--init")) set_init(config, run.at("init").get<std::string>());
  take_unless_given(app, "--rslora", config.use_rslora, run.at("rslora"));
  take_unless_given(app, "--dora", config.use_dora, run.at("dora"));
  take_unless_given(app, "--lora-bias", config.lora_bias, run.at("lora_bias"));
  take_unless_given(app, "--dropout", config.lora_dropout, run.at("dropout"));
  config.extra_json = run.at("extra").get<std::string>();
}

Json to_json(const LoraConfig& config) {
  Json json;
  json["rank"] = config.rank;
  json["alpha"] = config.alpha;
  json["target_modules"] = to_json(config.target_modules);
  json["exclude_modules"] = to_json(config.exclude_modules);
  json["layers"] = config.layers_to_transform;
  json["layers_pattern"] = config.layers_pattern;
  json["rank_pattern"] = to_json(config.rank_pattern);
  json["alpha_pattern"] = to_json(config.alpha_pattern);
  json["modules_to_save"] = config.modules_to_save;
  json["bias"] = bias_name(config.bias);
  json["init"] = init_name(config);
  json["rslora"] = config.use_rslora;
  json["dora"] = config.use_dora;
  json["lora_bias"] = config.lora_bias;
  json["dropout"] = config.lora_dropout;
  json["extra"] = config.extra_json;
  return json;
}

}  // namespace lowrank::cli
