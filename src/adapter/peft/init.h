#pragma once

#include <lowrank/adapter/lora_config.h>

#include <nlohmann/json.hpp>

#include "adapter/peft/fields.h"

/// How the factors start, in PEFT's adapter_config.json: init_lora_weights, eva_config,
/// corda_config and lora_ga_config. What PEFT has there beside the fields of ours (tau, cache_file)
/// changes no number here and stays in LoraConfig::extra_json.
namespace lowrank {

/// Throws FileError that names the file and the field.
void read_init(const PeftFields& fields, LoraConfig& config);

/// Beside what `json` holds of them already.
void write_init(nlohmann::ordered_json& json, const LoraConfig& config);

}  // namespace lowrank
