#include "adapter/peft/adapter_config.h"

#include <fmt/format.h>
#include <lowrank/adapter/config_fields.h>
#include <lowrank/error.h>
#include <lowrank/io/json.h>
#include <lowrank/io/sha256.h>

#include <algorithm>
#include <array>
#include <map>
#include <utility>

#include "adapter/config/json_fields.h"
#include "adapter/config/name_matching.h"

namespace lowrank {
namespace {

using Json = nlohmann::ordered_json;

/// Fields that change the result in a way that is not supported, unless they are absent, null,
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

void require_supported(const JsonFields& fields) {
  const auto type = fields.text("peft_type", "none");
  if (type != "LORA") fields.wrong("peft_type \"LORA\"", fmt::format("\"{}\"", type));
  for (const auto& [field, meaning] : kUnsupported) {
    const auto* value = fields.find(field);
    if (value == nullptr || *value == false || (value->is_structured() && value->empty())) continue;
    fields.wrong(fmt::format("no {} ({}), which this version cannot honour", field, meaning),
                 value->dump(-1, ' ', /*ensure_ascii=*/true).substr(0, 60));
  }
}

/// Refuses numbers for which PEFT has no default, or which it gives no meaning.
void require_numbers(const JsonFields& fields, const Json& json) {
  for (const char* field : {"r", "lora_alpha"}) {  // only absent fields get the defaults
    if (json.contains(field) && json[field].is_null()) {
      fields.wrong(fmt::format("a number as {}", field), "null");
    }
  }
  const auto rank = fields.whole_number("r", LoraConfig().rank);
  if (rank < 1) fields.wrong("an r of at least 1", std::to_string(rank));
  if (fields.number("lora_alpha", LoraConfig().alpha) == 0) {
    fields.wrong("a lora_alpha other than 0", "0");
  }
}

/// Refuses the two names that are not PEFT's own: PEFT writes true for kaiming, and has no name for
/// standard normal factors.
void require_name_of_init(const JsonFields& fields) {
  const auto* value = fields.find("init_lora_weights");
  if (value == nullptr || (*value != "kaiming" && *value != "normal")) return;
  fields.wrong("PEFT's name of an init", value->get<std::string>());
}

/// Returns whether PEFT adapts this layer too under layers_to_transform. It finds no number in a
/// path that begins with the numbered segment ("layers.0.query"), and asks for none in a layer that
/// is named in full.
bool is_kept_by_peft(const LoraConfig& config, const std::string& path) {
  const auto& names = config.target_modules.names;
  return config.layers_to_transform.empty() ||
         std::find(names.begin(), names.end(), path) != names.end() ||
         LayerIndices(config).is_found_by_peft(path);
}

/// Returns the config's own target_modules if PEFT finds the same layers by them, otherwise the
/// paths of the layers.
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

/// Returns PEFT's value of init_lora_weights.
Json init_json(const LoraConfig& config) {
  const bool is_default =
      config.init == LoraInit::kKaimingUniform || config.init == LoraInit::kNormal;
  return is_default ? Json(true) : Json(init_name(config));
}

}  // namespace

Json to_peft_json(const LoraConfig& config, const PeftTargets& targets) {
  auto json = to_json(config);
  for (const char* field : {"auto_mapping", "base_model_name_or_path", "revision", "task_type"}) {
    if (!json.contains(field)) json[field] = nullptr;
  }
  if (!targets.base_model.empty()) {
    // A path may hold any bytes, but JSON is UTF-8.
    json["base_model_name_or_path"] = Json::parse(to_text(Json(targets.base_model), -1));
  }
  json["init_lora_weights"] = init_json(config);
  json["inference_mode"] = true;
  json["peft_type"] = "LORA";
  json["fan_in_fan_out"] = targets.fan_in_fan_out;
  json["target_modules"] = target_modules_json(config, targets);
  json["target_parameters"] = targets.parameters.empty() ? Json(nullptr) : Json(targets.parameters);
  // The keys are sorted as PEFT does, but only at the top, because the first match in a pattern
  // counts.
  std::map<std::string, Json> by_key;
  for (auto& [key, value] : json.items()) by_key.emplace(key, std::move(value));
  Json sorted(by_key);
  return sorted;
}

LoraConfig from_peft_json(const Json& json, const std::filesystem::path& file) {
  const JsonFields fields(json, file);
  require_supported(fields);
  require_numbers(fields, json);
  require_name_of_init(fields);
  fields.flag("fan_in_fan_out");  // only its type is checked: the layer's own kind counts
  auto own = json;
  for (const char* field : {"fan_in_fan_out", "inference_mode", "peft_type"}) own.erase(field);
  return lora_config_from_json(own, file);
}

LoraConfig read_lora_config(const std::filesystem::path& file) {
  return from_peft_json(read_ordered_json_file(file), file);
}

std::string config_fingerprint(const LoraConfig& config) {
  auto own = config;
  own.extra_json.clear();
  return sha256_hex(to_json(own).dump());
}

bool config_matches(const SafetensorsFile& file, const LoraConfig& config) {
  const auto saved_with = file.metadata().find(kConfigKey);
  return saved_with == file.metadata().end() || saved_with->second == config_fingerprint(config);
}

}  // namespace lowrank
