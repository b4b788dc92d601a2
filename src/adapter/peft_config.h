#pragma once

#include <lowrank/adapter/lora_config.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace lowrank {

/// PEFT's adapter_config.json (tuners/lora/config.py). `layers` are the names of the adapted
/// layers, which become target_modules.
nlohmann::ordered_json to_peft_json(const LoraConfig& config,
                                    const std::vector<std::string>& layers,
                                    const std::string& base_model);

/// The other way. Throws FileError that names `file` and the field for what is missing, of another
/// type, out of its range, or would change the numbers in a way this version cannot honour.
LoraConfig from_peft_json(const nlohmann::json& json, const std::filesystem::path& file);

}  // namespace lowrank
