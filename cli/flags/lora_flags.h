#pragma once

#include <lowrank/adapter/lora_config.h>

#include <filesystem>
#include <functional>
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

/// Calls `run`. An ArgumentError from there names the flags where the library names the fields of a
/// config, unless the fields may be those of --config.
void with_names_of_flags(const Flags& flags, const std::function<void()>& run);

/// Throws ArgumentError, naming the flag, if a flag of the config was given. `why` says what leaves
/// no room for it.
void require_no_lora_flags(const Flags& flags, const std::string& why);

}  // namespace lowrank::cli
