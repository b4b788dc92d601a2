#include "adapter/peft/config.h"

#include <fmt/format.h>
#include <lowrank/error.h>
#include <lowrank/io/json.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <set>
#include <utility>

#include "adapter/config/module_selector.h"
#include "adapter/peft/fields.h"
#include "adapter/peft/init.h"

namespace lowrank {
namespace {

using Json = nlohmann::ordered_json;

/// Fields that change the numbers in a way that cannot be honoured, unless they are absent, null,
/// false or empty.
struct Unsupported {
  const char* field;
  const char* meaning;
};
constexpr std::array<Unsupported, 10> kUnsupported = {{
    {"layer_replication", "replicated layers"},
    {"kasa_config", "KaSA"},
    {"use_bdlora", "block-diagonal LoRA"},
    {"alora_invocation_tokens", "activated LoRA"},
    {"use_qalora", "QALoRA"},
    {"arrow_config", "Arrow routing"},
    {"megatron_config", "Megatron layers"},
    {"monteclora_config", "Monte Carlo LoRA"},
    {"velora_config", "VeLoRA"},
    {"ensure_weight_tying", "adapters tied over layers"},
}};

/// Fields that LoraConfig has, and those that are written the same for every adapter.
const std::set<std::string> kOwnFields = {
    "alpha_pattern",     "bias",
    "exclude_modules",   "fan_in_fan_out",
    "inference_mode",    "init_lora_weights",
    "layers_pattern",    "layers_to_transform",
    "lora_alpha",        "lora_bias",
    "lora_dropout",      "modules_to_save",
    "peft_type",         "r",
    "rank_pattern",      "target_modules",
    "target_parameters", "trainable_token_indices",
    "use_dora",          "use_rslora",
};

void require_supported(const PeftFields& fields) {
  const auto type = fields.text("peft_type", "none");
  if (type != "LORA") fields.wrong("peft_type \"LORA\"", fmt::format("\"{}\"", type));
  for (const auto& [field, meaning] : kUnsupported) {
    const auto* value = fields.find(field);
    if (value == nullptr || *value == false || (value->is_structured() && value->empty())) continue;
    fields.wrong(fmt::format("no {} ({}), which this version cannot honour", field, meaning),
                 value->dump(-1, ' ', /*ensure_ascii=*/true).substr(0, 60));
  }
}

/// target_modules: one string is a regular expression, but for all-linear.
ModuleSelector selector(const PeftFields& fields, const char* field) {
  const auto* value = fields.find(field);
  if (value == nullptr || !value->is_string()) return ModuleSelector(fields.names(field));
  const auto text = value->get<std::string>();
  return is_all_linear(text) ? ModuleSelector{kAllLinear} : ModuleSelector::matching(text);
}

ModuleSelector target_modules(const PeftFields& fields) {
  auto targets = selector(fields, "target_modules");
  const auto parameters = fields.names("target_parameters");
  targets.names.insert(targets.names.end(), parameters.begin(), parameters.end());
  if (targets.empty()) {
    fields.wrong("target_modules",
                 fields.find("target_modules") == nullptr ? "none" : "an empty list");
  }
  return targets;
}

/// PEFT writes lora_alpha as it was given: 16 rather than 16.0.
Json number(double value) {
  if (value == std::floor(value) && std::abs(value) < 1e15) return static_cast<int64_t>(value);
  return value;
}

template <class T>
Json list_or_null(const std::vector<T>& values) {
  return values.empty() ? Json(nullptr) : Json(values);
}

Json selector_json(const ModuleSelector& selector) {
  return selector.regex.empty() ? list_or_null(selector.names) : Json(selector.regex);
}

/// Whether PEFT keeps a layer among those that layers_to_transform chooses: it finds no number in a
/// path that begins with it ("layers.0.query"), and asks none of a layer that is named in full.
bool is_kept_by_peft(const LoraConfig& config, const std::string& path) {
  const auto& names = config.target_modules.names;
  return config.layers_to_transform.empty() ||
         std::find(names.begin(), names.end(), path) != names.end() ||
         LayerIndices(config).is_found_by_peft(path);
}

/// The names as they are, where each of them finds some of the layers and nothing else is adapted.
Json target_modules_json(const LoraConfig& config, const PeftTargets& targets) {
  const auto& own = config.target_modules;
  if (!own.regex.empty()) {
    const Pattern regex(own.regex, "target_modules");
    const bool same = own.names.empty() ||
                      std::all_of(targets.modules.begin(), targets.modules.end(),
                                  [&](const auto& path) { return regex.matches_all_of(path); });
    return same ? Json(own.regex) : Json(targets.modules);
  }
  const bool same =
      targets.parameters.empty() &&
      std::all_of(targets.modules.begin(), targets.modules.end(),
                  [&](const auto& path) { return is_kept_by_peft(config, path); }) &&
      std::all_of(own.names.begin(), own.names.end(), [&](const auto& name) {
        return std::any_of(targets.modules.begin(), targets.modules.end(),
                           [&](const auto& path) { return matches_name(path, name); });
      });
  return same ? own.names : targets.modules;
}

Json tokens_json(const LoraConfig& config) {
  const auto& named = config.trainable_token_indices;
  if (named.empty()) return nullptr;
  if (named.front().first.empty()) return named.front().second;
  Json json = Json::object();
  for (const auto& [name, indices] : named) json[name] = indices;
  return json;
}

/// What LoraConfig holds, under PEFT's names.
void write_own_fields(Json& json, const LoraConfig& config) {
  json["alpha_pattern"] = Json::object();
  for (const auto& [key, alpha] : config.alpha_pattern) json["alpha_pattern"][key] = number(alpha);
  json["bias"] = bias_name(config.bias);
  json["exclude_modules"] = selector_json(config.exclude_modules);
  json["inference_mode"] = true;
  write_init(json, config);
  json["layers_pattern"] = list_or_null(config.layers_pattern);
  json["layers_to_transform"] = list_or_null(config.layers_to_transform);
  json["lora_alpha"] = number(config.alpha);
  json["lora_bias"] = config.lora_bias;
  json["lora_dropout"] = config.lora_dropout;
  json["modules_to_save"] = list_or_null(config.modules_to_save);
  json["peft_type"] = "LORA";
  json["r"] = config.rank;
  json["rank_pattern"] = Json::object();
  for (const auto& [key, rank] : config.rank_pattern) json["rank_pattern"][key] = rank;
  json["trainable_token_indices"] = tokens_json(config);
  json["use_dora"] = config.use_dora;
  json["use_rslora"] = config.use_rslora;
}

}  // namespace

Json to_peft_json(const LoraConfig& config, const PeftTargets& targets) {
  Json json;
  for (const char* field : {"auto_mapping", "base_model_name_or_path", "revision", "task_type"}) {
    json[field] = nullptr;
  }
  if (!config.extra_json.empty()) json.update(Json::parse(config.extra_json));
  if (!targets.base_model.empty()) json["base_model_name_or_path"] = targets.base_model;
  write_own_fields(json, config);
  json["fan_in_fan_out"] = targets.fan_in_fan_out;
  json["target_modules"] = target_modules_json(config, targets);
  json["target_parameters"] = list_or_null(targets.parameters);
  // As PEFT does; only at the top, for a pattern's first match counts.
  std::map<std::string, Json> by_key;
  for (auto& [key, value] : json.items()) by_key.emplace(key, std::move(value));
  Json sorted(by_key);
  return sorted;
}

LoraConfig from_peft_json(const Json& json, const std::filesystem::path& file) {
  const PeftFields fields(json, file);
  require_supported(fields);
  for (const char* field : {"r", "lora_alpha"}) {  // PEFT has defaults where they are absent only
    if (json.contains(field) && json[field].is_null()) {
      fields.wrong(fmt::format("a number as {}", field), "null");
    }
  }
  LoraConfig config;
  config.rank = fields.whole_number("r", config.rank);
  if (config.rank < 1) fields.wrong("an r of at least 1", std::to_string(config.rank));
  config.alpha = fields.number("lora_alpha", config.alpha);
  if (config.alpha == 0) fields.wrong("a lora_alpha other than 0", "0");
  config.target_modules = target_modules(fields);
  config.exclude_modules = selector(fields, "exclude_modules");
  config.layers_to_transform = fields.whole_numbers("layers_to_transform");
  config.layers_pattern = fields.names("layers_pattern", /*alone=*/true);
  if (config.layers_pattern == std::vector<std::string>{""}) config.layers_pattern.clear();
  config.rank_pattern = fields.rank_pattern("rank_pattern");
  config.alpha_pattern = fields.alpha_pattern("alpha_pattern");
  config.modules_to_save = fields.names("modules_to_save");
  config.trainable_token_indices = fields.numbers_by_name("trainable_token_indices");
  config.use_rslora = fields.flag("use_rslora");
  config.use_dora = fields.flag("use_dora");
  config.lora_bias = fields.flag("lora_bias");
  config.lora_dropout = fields.number("lora_dropout", 0);
  fields.flag("fan_in_fan_out");  // the layer's own kind counts
  read_init(fields, config);
  try {
    config.bias = bias_mode(fields.text("bias", "none"));
    check(config);
  } catch (const ArgumentError& error) {
    throw FileError(fmt::format("{} (in \"{}\")", error.what(), file.string()));
  }
  Json extra = Json::object();
  for (const auto& [key, value] : json.items()) {
    if (!kOwnFields.contains(key)) extra[key] = value;
  }
  if (!extra.empty()) config.extra_json = extra.dump();
  return config;
}

LoraConfig read_lora_config(const std::filesystem::path& file) {
  return from_peft_json(read_ordered_json_file(file), file);
}

}  // namespace lowrank
