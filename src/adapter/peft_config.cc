#include "adapter/peft_config.h"

#include <lowrank/error.h>

#include <array>
#include <cmath>
#include <set>
#include <utility>

namespace lowrank {
namespace {

using nlohmann::json;

/// Fields that change the numbers, with what they are when they change nothing (beside absence,
/// null, false and empty lists or objects).
struct Unsupported {
  const char* field;
  const char* meaning;
};
constexpr std::array<Unsupported, 20> kUnsupported = {{
    {"use_dora", "DoRA"},
    {"lora_bias", "a bias on lora_B"},
    {"modules_to_save", "modules that are trained whole"},
    {"rank_pattern", "ranks by layer"},
    {"alpha_pattern", "alphas by layer"},
    {"exclude_modules", "excluded layers"},
    {"layers_to_transform", "a choice of layers by index"},
    {"layers_pattern", "a choice of layers by index"},
    {"trainable_token_indices", "trainable tokens"},
    {"target_parameters", "adapted bare parameters"},
    {"layer_replication", "replicated layers"},
    {"kasa_config", "KaSA"},
    {"use_bdlora", "block-diagonal LoRA"},
    {"alora_invocation_tokens", "activated LoRA"},
    {"use_qalora", "QALoRA"},
    {"arrow_config", "Arrow routing"},
    {"corda_config", "CorDA"},
    {"lora_ga_config", "LoRA-GA"},
    {"megatron_config", "Megatron layers"},
    {"loftq_config", "LoftQ"},
}};

/// Initialisations that leave the base as it is; the others make PEFT change it when it loads.
const std::set<std::string> kPlainInit = {"gaussian", "orthogonal", "eva"};

class Reader {
 public:
  Reader(const json& object, const std::filesystem::path& file) : json_(object), file_(file) {
    if (!json_.is_object()) wrong("a JSON object", std::string("a ") + json_.type_name());
  }

  [[noreturn]] void wrong(const std::string& required, const std::string& found,
                          const std::string& hint = "") const {
    fail<FileError>("load", fmt::format("\"{}\" must hold {}", file_.string(), required), found,
                    hint);
  }

  const json* find(const char* field) const {
    const auto it = json_.find(field);
    return it == json_.end() || it->is_null() ? nullptr : &*it;
  }

  void require_known_kind() const {
    const auto* type = find("peft_type");
    if (type == nullptr || *type != "LORA") {
      wrong("peft_type \"LORA\"", type == nullptr ? "none" : type->dump());
    }
    for (const auto& [field, meaning] : kUnsupported) {
      const auto* value = find(field);
      if (value == nullptr || *value == false || (value->is_structured() && value->empty())) {
        continue;
      }
      wrong(fmt::format("no {} ({}), which this version cannot honour", field, meaning),
            value->dump().substr(0, 60));
    }
    const auto* bias = find("bias");
    if (bias != nullptr && *bias != "none") wrong("bias \"none\"", bias->dump());
    const auto* init = find("init_lora_weights");
    if (init != nullptr && !init->is_boolean() &&
        !(init->is_string() && kPlainInit.contains(init->get<std::string>()))) {
      wrong("init_lora_weights that leaves the base as it is", init->dump(),
            "PEFT changes the base for it when it loads; convert the adapter there with "
            "path_initial_model_for_weight_conversion.");
    }
  }

  int64_t rank() const {
    const auto* value = find("r");
    if (value == nullptr) return LoraConfig().rank;
    if (!value->is_number_integer() || value->get<int64_t>() < 1) {
      wrong("a whole number r of at least 1", value->dump());
    }
    return value->get<int64_t>();
  }

  double alpha() const {
    const auto* value = find("lora_alpha");
    if (value == nullptr) return LoraConfig().alpha;
    if (!value->is_number() || !std::isfinite(value->get<double>()) || value->get<double>() == 0) {
      wrong("a finite lora_alpha other than 0", value->dump());
    }
    return value->get<double>();
  }

  bool flag(const char* field) const {
    const auto* value = find(field);
    if (value == nullptr) return false;
    if (!value->is_boolean()) wrong(fmt::format("true or false as {}", field), value->dump());
    return value->get<bool>();
  }

  std::vector<std::string> target_modules() const {
    const auto* value = find("target_modules");
    if (value == nullptr) wrong("target_modules", "none");
    if (*value == "all-linear") return {"all-linear"};
    if (!value->is_array()) wrong("a list of names as target_modules", value->dump());
    std::vector<std::string> names;
    for (const auto& name : *value) {
      if (!name.is_string()) wrong("a list of names as target_modules", value->dump());
      names.push_back(name.get<std::string>());
    }
    if (names.empty()) wrong("at least one name in target_modules", "an empty list");
    return names;
  }

 private:
  const json& json_;
  const std::filesystem::path& file_;
};

/// PEFT writes lora_alpha as it was given: 16 rather than 16.0.
nlohmann::ordered_json number(double value) {
  if (value == std::floor(value) && std::abs(value) < 1e15) return static_cast<int64_t>(value);
  return value;
}

}  // namespace

nlohmann::ordered_json to_peft_json(const LoraConfig& config,
                                    const std::vector<std::string>& layers,
                                    const std::string& base_model) {
  // Sorted by key, as PEFT writes them. init_lora_weights stays at its default: the others make
  // PEFT look at the base when it loads, and the values come from the file anyway.
  nlohmann::ordered_json json;
  json["alpha_pattern"] = nlohmann::ordered_json::object();
  json["auto_mapping"] = nullptr;
  json["base_model_name_or_path"] =
      base_model.empty() ? nlohmann::ordered_json(nullptr) : nlohmann::ordered_json(base_model);
  json["bias"] = "none";
  json["fan_in_fan_out"] = false;
  json["inference_mode"] = true;
  json["init_lora_weights"] = true;
  json["layers_pattern"] = nullptr;
  json["layers_to_transform"] = nullptr;
  json["lora_alpha"] = number(config.alpha);
  json["lora_dropout"] = 0.0;
  json["modules_to_save"] = nullptr;
  json["peft_type"] = "LORA";
  json["r"] = config.rank;
  json["rank_pattern"] = nlohmann::ordered_json::object();
  json["revision"] = nullptr;
  json["target_modules"] = layers;
  json["task_type"] = nullptr;
  json["use_dora"] = false;
  json["use_rslora"] = config.use_rslora;
  return json;
}

LoraConfig from_peft_json(const nlohmann::json& json, const std::filesystem::path& file) {
  const Reader reader(json, file);
  reader.require_known_kind();
  LoraConfig config;
  config.rank = reader.rank();
  config.alpha = reader.alpha();
  config.target_modules = reader.target_modules();
  config.use_rslora = reader.flag("use_rslora");
  return config;
}

}  // namespace lowrank
