#include "cli/flags/lora_flags.h"

#include <fmt/format.h>
#include <lowrank/error.h>

#include <charconv>
#include <cmath>
#include <utility>

#include "cli/flags/training_flags.h"

namespace lowrank::cli {
namespace {

using Json = nlohmann::ordered_json;
using Names = std::vector<std::string>;

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

void add_selection(const Flags& flags, LoraConfig& config) {
  auto targets = flags.names(
      "--target-modules",
      [&config](const Names& names) { config.target_modules = ModuleSelector(names); },
      "Layers (or ends of their paths), or all-linear");
  targets.default_text("all-linear");
  flags
      .option(
          "--target-regex",
          [&config](const std::string& regex) {
            config.target_modules = ModuleSelector::matching(regex);
          },
          "Layers whose whole path matches, in Python's syntax")
      .type_name("REGEX")
      .excludes(targets);
  auto excluded = flags.names(
      "--exclude-modules",
      [&config](const Names& names) { config.exclude_modules = ModuleSelector(names); },
      "Layers that are left out all the same");
  flags
      .option(
          "--exclude-regex",
          [&config](const std::string& regex) {
            config.exclude_modules = ModuleSelector::matching(regex);
          },
          "The same by one regular expression")
      .type_name("REGEX")
      .excludes(excluded);
  flags.option("--layers", &config.layers_to_transform, "Only the layers of these numbers")
      .type_name("N,...");
  flags.names(
      "--layers-pattern", [&config](const Names& names) { config.layers_pattern = names; },
      "What such a number follows in a path (layers, h); any name where left out");
}

void add_ranks(const Flags& flags, LoraConfig& config) {
  flags.option("--rank", &config.rank, "Rank r of the factors").shows_default();
  flags.option("--alpha", &config.alpha, "The update is scaled by alpha / r").shows_default();
  flags
      .option(
          "--rank-pattern",
          [&config](const std::string& text) { config.rank_pattern = parse_ranks(text); },
          "Ranks by layer; the first name or regular expression that matches counts")
      .type_name("NAME=R,...");
  flags
      .option(
          "--alpha-pattern",
          [&config](const std::string& text) {
            config.alpha_pattern = parse_pattern("--alpha-pattern", text);
          },
          "Alphas by layer")
      .type_name("NAME=A,...");
  flags.flag("--rslora", config.use_rslora, "Scale by alpha / sqrt(r)");
}

void add_form(const Flags& flags, LoraConfig& config) {
  flags
      .option(
          "--init", [&config](const std::string& name) { set_init(config, name); },
          "How the factors start: kaiming (PEFT's default), gaussian, normal, orthogonal, pissa, "
          "pissa_niter_N, olora, eva, corda or lora_ga")
      .type_name("NAME")
      .default_text(init_name(config));
  flags.flag("--dora", config.use_dora, "Train magnitudes beside directions (DoRA)");
  flags.option("--dropout", &config.lora_dropout, "Share of the inputs of A zeroed in training")
      .shows_default();
  flags.flag("--lora-bias", config.lora_bias, "A bias on B");
  flags
      .option(
          "--bias", [&config](const std::string& name) { config.bias = bias_mode(name); },
          "Biases trained beside the factors: none, all or lora_only")
      .type_name("NAME")
      .default_text(bias_name(config.bias));
  flags.names(
      "--modules-to-save", [&config](const Names& names) { config.modules_to_save = names; },
      "Modules trained whole, in a copy");
}

ModuleSelector selector_of(const nlohmann::json& json) {
  return json.is_string() ? ModuleSelector::matching(json.get<std::string>())
                          : ModuleSelector(json.get<Names>());
}

void take_init_options(LoraConfig& config, const nlohmann::json& json) {
  config.eva_config = {.rho = json.at("rho").get<double>(),
                       .whiten = json.at("whiten").get<bool>(),
                       .adjust_scaling_factors = json.at("adjust_scaling_factors").get<bool>()};
  config.corda_config.corda_method = corda_method(json.at("corda_method").get<std::string>());
  config.lora_ga_config = {.direction = lora_ga_direction(json.at("direction").get<std::string>()),
                           .scale = lora_ga_scale(json.at("scale").get<std::string>()),
                           .stable_gamma = json.at("stable_gamma").get<double>()};
}

}  // namespace

void add_lora_flags(const Flags& flags, LoraConfig& config) {
  const auto lora = flags.under("LoRA");
  // First, for flags act in the order in which they are added.
  lora.option(
          "--config", [&config](const std::string& file) { config = read_lora_config(file); },
          "A PEFT adapter_config.json to start from; the flags below override it")
      .type_name("FILE");
  add_ranks(lora, config);
  add_selection(lora, config);
  add_form(lora, config);
}

void take_lora(const Flags& flags, LoraConfig& config, const nlohmann::json& run) {
  if (flags.given("--config")) return;
  take_unless_given(flags, "--rank", config.rank, run.at("rank"));
  take_unless_given(flags, "--alpha", config.alpha, run.at("alpha"));
  if (!flags.given("--target-modules") && !flags.given("--target-regex")) {
    config.target_modules = selector_of(run.at("target_modules"));
  }
  if (!flags.given("--exclude-modules") && !flags.given("--exclude-regex")) {
    config.exclude_modules = selector_of(run.at("exclude_modules"));
  }
  take_unless_given(flags, "--layers", config.layers_to_transform, run.at("layers"));
  take_unless_given(flags, "--layers-pattern", config.layers_pattern, run.at("layers_pattern"));
  take_unless_given(flags, "--rank-pattern", config.rank_pattern, run.at("rank_pattern"));
  take_unless_given(flags, "--alpha-pattern", config.alpha_pattern, run.at("alpha_pattern"));
  take_unless_given(flags, "--modules-to-save", config.modules_to_save, run.at("modules_to_save"));
  if (!flags.given("--bias")) config.bias = bias_mode(run.at("bias").get<std::string>());
  if (!flags.given("--init")) set_init(config, run.at("init").get<std::string>());
  take_unless_given(flags, "--rslora", config.use_rslora, run.at("rslora"));
  take_unless_given(flags, "--dora", config.use_dora, run.at("dora"));
  take_unless_given(flags, "--lora-bias", config.lora_bias, run.at("lora_bias"));
  take_unless_given(flags, "--dropout", config.lora_dropout, run.at("dropout"));
  take_init_options(config, run.at("init_options"));
  config.extra_json = run.at("extra").get<std::string>();
}

}  // namespace lowrank::cli
