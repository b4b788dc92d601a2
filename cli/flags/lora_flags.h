#pragma once

#include <lowrank/adapter/lora_config.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>

#include "cli/flags/flags.h"

/// The flags that say what is adapted, and how.
namespace lowrank::cli {

/// Adds --config, and a flag for each field of a LoraConfig that has one
/// (adapter/config_fields.h). The flags override what --config reads.
void add_lora_flags(const Flags& flags, LoraConfig& config);

/// For --resume: takes what was not given on the command line from the interrupted `run`, which was
/// read from `file`. With --config, everything was given.
void restore_lora(const Flags& flags, LoraConfig& config, const nlohmann::ordered_json& run,
                  const std::filesystem::path& file);

/// Where --rank was given and --alpha was not, alpha is the rank, so that the scaling is 1. What
/// --config reads stays as it is.
void complete_lora(const Flags& flags, LoraConfig& config);

/// Throws ArgumentError, naming the flag, if a flag of the config was given. `why` says what leaves
/// no room for it.
void require_no_lora_flags(const Flags& flags, const std::string& why);

}  // namespace lowrank::cli
