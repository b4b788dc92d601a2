#pragma once

#include <lowrank/adapter/lora_config.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "cli/flags/flags.h"

/// The flags that say what is adapted, and how.
namespace lowrank::cli {

/// --config, and a flag for each field of a LoraConfig that has one (adapter/config_fields.h). What
/// --config reads is overridden by the flags beside it.
void add_lora_flags(const Flags& flags, LoraConfig& config);

/// For --resume: what was not given on the command line is as the interrupted run had it, which
/// `file` says; with --config, all is given.
void take_lora(const Flags& flags, LoraConfig& config, const nlohmann::ordered_json& run,
               const std::filesystem::path& file);

}  // namespace lowrank::cli
