#include "adapter/peft/init.h"

#include <lowrank/error.h>

#include <algorithm>
#include <cctype>
#include <cmath>
#include <string>

namespace lowrank {
namespace {

using Json = nlohmann::ordered_json;

void read_eva(const PeftFields& fields, EvaConfig& config) {
  config.rho = fields.number("rho", config.rho);
  config.whiten = fields.flag("whiten", config.whiten);
  config.adjust_scaling_factors =
      fields.flag("adjust_scaling_factors", config.adjust_scaling_factors);
}

void read_corda(const PeftFields& fields, CordaConfig& config) {
  config.corda_method = corda_method(fields.text("corda_method", "ipm"));
}

void read_lora_ga(const PeftFields& fields, LoraGaConfig& config) {
  config.direction = lora_ga_direction(fields.text("direction", "ArB2r"));
  config.scale = lora_ga_scale(fields.text("scale", "stable"));
  config.stable_gamma = fields.number("stable_gamma", config.stable_gamma);
}

/// PEFT writes 2.0 as 2.0 and 16 as 16; either reads both.
void write_eva(Json& json, const EvaConfig& config) {
  json["rho"] = config.rho;
  json["whiten"] = config.whiten;
  json["adjust_scaling_factors"] = config.adjust_scaling_factors;
}

void write_lora_ga(Json& json, const LoraGaConfig& config) {
  json["direction"] = lora_ga_direction_name(config.direction);
  json["scale"] = lora_ga_scale_name(config.scale);
  json["stable_gamma"] = config.stable_gamma;
}

void read_name(const PeftFields& fields, LoraConfig& config) {
  const auto* value = fields.find("init_lora_weights");
  if (value == nullptr || value->is_boolean()) return;
  auto name = fields.text("init_lora_weights", "");
  std::transform(name.begin(), name.end(), name.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  if (name == "kaiming" || name == "normal") fields.wrong("PEFT's name of an init", name);
  try {
    set_init(config, name);
  } catch (const ArgumentError& error) {
    fields.wrong("init_lora_weights that this version knows", error.what());
  }
}

}  // namespace

void read_init(const PeftFields& fields, LoraConfig& config) {
  read_name(fields, config);
  const auto read = [&](const char* field, const auto& read_fields, auto& part) {
    const auto* value = fields.find(field);
    if (value == nullptr) return;
    try {
      read_fields(fields.below(*value), part);
    } catch (const ArgumentError& error) {
      fields.wrong(std::string("a ") + field + " that this version knows", error.what());
    }
  };
  read("eva_config", read_eva, config.eva_config);
  read("corda_config", read_corda, config.corda_config);
  read("lora_ga_config", read_lora_ga, config.lora_ga_config);
}

void write_init(Json& json, const LoraConfig& config) {
  // PEFT has no name for standard normal factors; they are in the file anyway.
  const bool is_default =
      config.init == LoraInit::kKaimingUniform || config.init == LoraInit::kNormal;
  json["init_lora_weights"] = is_default ? Json(true) : Json(init_name(config));
  if (config.init == LoraInit::kEva) write_eva(json["eva_config"], config.eva_config);
  if (config.init == LoraInit::kCorda) {
    json["corda_config"]["corda_method"] = corda_method_name(config.corda_config.corda_method);
  }
  if (config.init == LoraInit::kLoraGa)
    write_lora_ga(json["lora_ga_config"], config.lora_ga_config);
}

}  // namespace lowrank
