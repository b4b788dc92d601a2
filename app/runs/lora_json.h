#pragma once

#include <lowrank/adapter/lora_config.h>

#include <nlohmann/json.hpp>

namespace lowrank::app {

/// The config by name, for a run's identity.
nlohmann::ordered_json to_json(const LoraConfig& config);

}  // namespace lowrank::app
