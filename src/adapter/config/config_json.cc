#include <fmt/format.h>
#include <lowrank/adapter/config_fields.h>
#include <lowrank/error.h>

#include <algorithm>
#include <cctype>
#include <cmath>
#include <set>

#include "adapter/config/json_fields.h"
#include "adapter/config/name_matching.h"

// Converts the table of a config's fields to JSON and back.
namespace lowrank {
namespace {

using Json = nlohmann::ordered_json;

/// PEFT's field for parameters that are named directly; here their names are part of
/// target_modules.
constexpr const char* kTargetParameters = "target_parameters";

/// PEFT writes lora_alpha as it was given: 16 rather than 16.0.
Json number(double value) {
  if (value == std::floor(value) && std::abs(value) < 1e15) return static_cast<int64_t>(value);
  return value;
}

template <class T>
Json list_or_null(const std::vector<T>& values) {
  return values.empty() ? Json(nullptr) : Json(values);
}

/// Converts one member to JSON. It needs the whole config, since init_lora_weights also depends on
/// init_iterations.
class Writer {
 public:
  explicit Writer(const LoraConfig& config) : config_(config) {}

  Json operator()(int64_t LoraConfig::*member) const { return config_.*member; }
  Json operator()(bool LoraConfig::*member) const { return config_.*member; }
  Json operator()(double LoraConfig::*member) const {
    return member == &LoraConfig::alpha ? number(config_.*member) : Json(config_.*member);
  }
  Json operator()(ModuleSelector LoraConfig::*member) const {
    const auto& selector = config_.*member;
    return selector.regex.empty() ? list_or_null(selector.names) : Json(selector.regex);
  }
  Json operator()(std::vector<int64_t> LoraConfig::*member) const {
    return list_or_null(config_.*member);
  }
  Json operator()(std::vector<std::string> LoraConfig::*member) const {
    return list_or_null(config_.*member);
  }
  Json operator()(std::vector<std::pair<std::string, int64_t>> LoraConfig::*member) const {
    Json json = Json::object();
    for (const auto& [key, rank] : config_.*member) json[key] = rank;
    return json;
  }
  Json operator()(std::vector<std::pair<std::string, double>> LoraConfig::*member) const {
    Json json = Json::object();
    for (const auto& [key, alpha] : config_.*member) json[key] = number(alpha);
    return json;
  }
  Json operator()(
      std::vector<std::pair<std::string, std::vector<int64_t>>> LoraConfig::*member) const {
    const auto& named = config_.*member;
    if (named.empty()) return nullptr;
    if (named.front().first.empty()) return named.front().second;
    Json json = Json::object();
    for (const auto& [name, indices] : named) json[name] = indices;
    return json;
  }
  Json operator()(BiasMode LoraConfig::*member) const { return bias_name(config_.*member); }
  Json operator()(LoraInit LoraConfig::* /*init*/) const { return init_name(config_); }
  Json operator()(EvaConfig LoraConfig::*member) const {
    const auto& eva = config_.*member;
    return {{"rho", eva.rho},
            {"whiten", eva.whiten},
            {"adjust_scaling_factors", eva.adjust_scaling_factors}};
  }
  Json operator()(CordaConfig LoraConfig::*member) const {
    return {{"corda_method", corda_method_name((config_.*member).corda_method)}};
  }
  Json operator()(LoraGaConfig LoraConfig::*member) const {
    const auto& lora_ga = config_.*member;
    return {{"direction", lora_ga_direction_name(lora_ga.direction)},
            {"scale", lora_ga_scale_name(lora_ga.scale)},
            {"stable_gamma", lora_ga.stable_gamma}};
  }

 private:
  const LoraConfig& config_;
};

/// Reads one field from a file. A field that is absent or null leaves the member as it is.
class Reader {
 public:
  Reader(const JsonFields& fields, const char* name, LoraConfig& config)
      : fields_(fields), name_(name), config_(config) {}

  void operator()(int64_t LoraConfig::*member) const {
    config_.*member = fields_.whole_number(name_, config_.*member);
  }
  void operator()(bool LoraConfig::*member) const {
    config_.*member = fields_.flag(name_, config_.*member);
  }
  void operator()(double LoraConfig::*member) const {
    config_.*member = fields_.number(name_, config_.*member);
  }
  /// A single string is a regular expression, unless it is all-linear.
  void operator()(ModuleSelector LoraConfig::*member) const {
    const auto* value = fields_.find(name_);
    auto& selector = config_.*member;
    if (value != nullptr && value->is_string()) {
      const auto text = value->get<std::string>();
      selector = is_all_linear(text) ? ModuleSelector{kAllLinear} : ModuleSelector::matching(text);
    } else {
      selector = ModuleSelector(fields_.names(name_));
    }
    if (member != &LoraConfig::target_modules) return;
    const auto parameters = fields_.names(kTargetParameters);
    selector.names.insert(selector.names.end(), parameters.begin(), parameters.end());
    if (selector.empty()) {
      fields_.wrong(name_, fields_.find(name_) == nullptr ? "none" : "an empty list");
    }
  }
  void operator()(std::vector<int64_t> LoraConfig::*member) const {
    config_.*member = fields_.whole_numbers(name_);
  }
  /// PEFT accepts a single string for layers_pattern, and writes "" if there is none.
  void operator()(std::vector<std::string> LoraConfig::*member) const {
    auto& names = config_.*member;
    const bool alone = member == &LoraConfig::layers_pattern;
    names = fields_.names(name_, alone);
    if (alone && names == std::vector<std::string>{""}) names.clear();
  }
  void operator()(std::vector<std::pair<std::string, int64_t>> LoraConfig::*member) const {
    config_.*member = fields_.rank_pattern(name_);
  }
  void operator()(std::vector<std::pair<std::string, double>> LoraConfig::*member) const {
    config_.*member = fields_.alpha_pattern(name_);
  }
  void operator()(
      std::vector<std::pair<std::string, std::vector<int64_t>>> LoraConfig::*member) const {
    config_.*member = fields_.numbers_by_name(name_);
  }
  void operator()(BiasMode LoraConfig::*member) const {
    config_.*member = bias_mode(fields_.text(name_, "none"));
  }
  /// PEFT writes true for its default, and accepts names in any case. false stands for factors with
  /// which a model does not start as its base; it becomes the default too, since B starts at zero
  /// here.
  void operator()(LoraInit LoraConfig::* /*init*/) const {
    const auto* value = fields_.find(name_);
    if (value == nullptr || value->is_boolean()) return;
    auto name = fields_.text(name_, "");
    std::transform(name.begin(), name.end(), name.begin(),
                   [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    known([&] { set_init(config_, name); });
  }
  void operator()(EvaConfig LoraConfig::*member) const {
    read_object([&](const JsonFields& fields) {
      auto& eva = config_.*member;
      eva.rho = fields.number("rho", eva.rho);
      eva.whiten = fields.flag("whiten", eva.whiten);
      eva.adjust_scaling_factors =
          fields.flag("adjust_scaling_factors", eva.adjust_scaling_factors);
    });
  }
  void operator()(CordaConfig LoraConfig::*member) const {
    read_object([&](const JsonFields& fields) {
      (config_.*member).corda_method = corda_method(fields.text("corda_method", "ipm"));
    });
  }
  void operator()(LoraGaConfig LoraConfig::*member) const {
    read_object([&](const JsonFields& fields) {
      auto& lora_ga = config_.*member;
      lora_ga.direction = lora_ga_direction(fields.text("direction", "ArB2r"));
      lora_ga.scale = lora_ga_scale(fields.text("scale", "stable"));
      lora_ga.stable_gamma = fields.number("stable_gamma", lora_ga.stable_gamma);
    });
  }

 private:
  template <class Read>
  void read_object(const Read& read) const {
    const auto* value = fields_.find(name_);
    if (value != nullptr) known([&] { read(fields_.below(*value)); });
  }
  template <class Read>
  void known(const Read& read) const {
    try {
      read();
    } catch (const ArgumentError& error) {
      fields_.wrong(fmt::format("{} that this version knows", name_), error.what());
    }
  }

  const JsonFields& fields_;
  const char* name_;
  LoraConfig& config_;
};

/// Returns what a file contains in addition to the fields of the table: fields that are not ours
/// and, within the objects that are, PEFT's options that we do not have (tau, cache_file). They
/// affect no result here.
Json extra_fields(const Json& json) {
  const auto own = to_json(LoraConfig());
  Json extra = Json::object();
  for (const auto& [key, value] : json.items()) {
    if (key == kTargetParameters) continue;
    if (!own.contains(key)) {
      extra[key] = value;
      continue;
    }
    const bool is_pattern = key.ends_with("_pattern") || key == "trainable_token_indices";
    if (is_pattern || !key.ends_with("_config")) continue;
    if (value.is_null()) extra[key] = nullptr;
    if (!value.is_object()) continue;
    Json rest = Json::object();
    for (const auto& [name, inner] : value.items()) {
      if (!own[key].contains(name)) rest[name] = inner;
    }
    if (!rest.empty()) extra[key] = rest;
  }
  return extra;
}

}  // namespace

Json to_json(const LoraConfig& config) {
  Json json = Json::object();
  if (!config.extra_json.empty()) json.update(Json::parse(config.extra_json));
  for (const auto& field : config_fields()) {
    auto value = std::visit(Writer(config), field.member);
    auto& place = json[field.name];
    if (place.is_object() && value.is_object()) {
      place.update(value);
    } else {
      place = std::move(value);
    }
  }
  const auto& targets = config.target_modules;
  if (!targets.regex.empty()) json[kTargetParameters] = list_or_null(targets.names);
  return json;
}

LoraConfig lora_config_from_json(const Json& json, const std::filesystem::path& file) {
  const JsonFields fields(json, file);
  LoraConfig config;
  try {
    for (const auto& field : config_fields()) {
      std::visit(Reader(fields, field.name, config), field.member);
    }
    check(config);
  } catch (const ArgumentError& error) {
    throw FileError(fmt::format("{} (in \"{}\")", error.what(), file.string()));
  }
  const auto extra = extra_fields(json);
  if (!extra.empty()) config.extra_json = extra.dump();
  return config;
}

}  // namespace lowrank
