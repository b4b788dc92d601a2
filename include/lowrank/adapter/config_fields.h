#pragma once

#include <lowrank/adapter/lora_config.h>
#include <lowrank/export.h>

#include <cstdint>
#include <filesystem>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <utility>
#include <variant>
#include <vector>

namespace lowrank {

/// One field of a LoraConfig, as files, command lines and people name it. What flags, `--config`,
/// `--resume` and `info` know of a config they know from this table.
struct ConfigField {
  using Member =
      std::variant<int64_t LoraConfig::*, double LoraConfig::*, bool LoraConfig::*,
                   ModuleSelector LoraConfig::*, std::vector<int64_t> LoraConfig::*,
                   std::vector<std::string> LoraConfig::*,
                   std::vector<std::pair<std::string, int64_t>> LoraConfig::*,
                   std::vector<std::pair<std::string, double>> LoraConfig::*,
                   std::vector<std::pair<std::string, std::vector<int64_t>>> LoraConfig::*,
                   BiasMode LoraConfig::*, LoraInit LoraConfig::*, EvaConfig LoraConfig::*,
                   CordaConfig LoraConfig::*, LoraGaConfig LoraConfig::*>;

  const char* name;  ///< in PEFT's adapter_config.json: "lora_alpha"
  const char* flag;  ///< of the command: "--alpha"; empty where only a file gives it
  Member member;
  const char* help;  ///< one line for --help
};

/// All fields but extra_json, in the order in which people care for them.
/// LoraConfig::init_iterations is part of the field init_lora_weights ("pissa_niter_16").
LOWRANK_API const std::vector<ConfigField>& config_fields();

/// The value of `field` in `from` becomes that in `to`.
LOWRANK_API void copy_field(const ConfigField& field, const LoraConfig& from, LoraConfig& to);

/// The whole config under PEFT's names, extra_json among them. Two things differ from PEFT's own
/// file: init_lora_weights is always init_name(), and the options of EVA, CorDA and LoRA-GA are
/// always there. Parameters that target_modules names beside a regular expression are
/// target_parameters.
LOWRANK_API nlohmann::ordered_json to_json(const LoraConfig& config);

/// The other way; what is absent or null keeps its default, and unknown fields go to extra_json.
/// `file` is for messages. Throws FileError that names the file and the field for a value of
/// another type, and what check() throws as FileError.
LOWRANK_API LoraConfig lora_config_from_json(const nlohmann::ordered_json& json,
                                             const std::filesystem::path& file);

}  // namespace lowrank
