#include <fmt/format.h>
#include <lowrank/adapter/config_fields.h>
#include <lowrank/error.h>

#include <algorithm>
#include <cctype>
#include <cmath>
#include <utility>

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

/// Returns whether the field holds the options of one initialisation.
bool is_option_object(const ConfigField& field) {
  return std::holds_alternative<EvaConfig LoraConfig::*>(field.member) ||
         std::holds_alternative<CordaConfig LoraConfig::*>(field.member) ||
         std::holds_alternative<LoraGaConfig LoraConfig::*>(field.member);
}

/// Returns whether this initialisation reads these options.
bool are_options_used(const ConfigField& field, LoraInit init) {
  const bool eva = std::holds_alternative<EvaConfig LoraConfig::*>(field.member);
  const bool corda = std::holds_alternative<CordaConfig LoraConfig::*>(field.member);
  return init == (eva ? LoraInit::kEva : corda ? LoraInit::kCorda : LoraInit::kLoraGa);
}

/// Returns whether nothing of this value is lost in the config, which was read from it.
bool is_held(const ConfigField& field, const Json& value, const LoraConfig& config) {
  if (!is_option_object(field)) return true;
  if (!are_options_used(field, config.init) || !value.is_object()) return false;
  const auto own = std::visit(Writer(config), field.member);
  return std::all_of(value.items().begin(), value.items().end(),
                     [&](const auto& item) { return own.contains(item.key()); });
}

/// Returns the fields of a file that `config`, which was read from it, does not hold. They change
/// no number here: the options of an initialisation that is not used, or what PEFT has beside ours
/// in such an object (tau, cache_file), which is kept whole.
Json extra_fields(const Json& json, const LoraConfig& config) {
  auto extra = json;
  extra.erase(kTargetParameters);
  for (const auto& field : config_fields()) {
    if (json.contains(field.name) && is_held(field, json[field.name], config)) {
      extra.erase(field.name);
    }
  }
  return extra;
}

}  // namespace

Json to_json(const LoraConfig& config) {
  const auto extra = config.extra_json.empty() ? Json::object() : Json::parse(config.extra_json);
  Json json = Json::object();
  for (const auto& field : config_fields()) {
    const bool is_options = is_option_object(field);
    if (is_options && !are_options_used(field, config.init)) continue;
    auto value = std::visit(Writer(config), field.member);
    if (is_options && extra.contains(field.name) && extra[field.name].is_object()) {
      json[field.name] = extra[field.name];
      json[field.name].update(value);
    } else {
      json[field.name] = std::move(value);
    }
  }
  const auto& targets = config.target_modules;
  if (!targets.regex.empty()) json[kTargetParameters] = list_or_null(targets.names);
  for (const auto& [key, value] : extra.items()) {
    if (!json.contains(key)) json[key] = value;
  }
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
  const auto extra = extra_fields(json, config);
  if (!extra.empty()) config.extra_json = extra.dump();
  return config;
}

}  // namespace lowrank
