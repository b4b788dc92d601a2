#pragma once

#include <lowrank/adapter/lora_config.h>

#include <nlohmann/json.hpp>

#include "cli/flags/flags.h"

/// The flags that say what is adapted, and how.
namespace lowrank::cli {

/// --config, --rank, --alpha, --target-modules and all the rest of a LoraConfig. What --config
/// reads is overridden by the flags beside it.
void add_lora_flags(const Flags& flags, LoraConfig& config);

/// For --resume: what was not given on the command line is as the interrupted run had it; with
/// --config, all is given.
void take_lora(const Flags& flags, LoraConfig& config, const nlohmann::json& run);

}  // namespace lowrank::cli
