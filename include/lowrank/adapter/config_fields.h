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

/// One field of a LoraConfig, with its names in files and on the command line. The flags,
/// `--config`, `--resume` and `info` all take the fields of a config from this table.
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

  const char* name;  ///< its name in PEFT's adapter_config.json: "lora_alpha"
  const char* flag;  ///< its flag: "--alpha"; empty if only a file can set it
  Member member;
  const char* help;  ///< one line for --help
};

/// All fields except extra_json, the most important ones first.
LOWRANK_API const std::vector<ConfigField>& config_fields();

/// Copies the value of `field` in `from` to `to`.
LOWRANK_API void copy_field(const ConfigField& field, const LoraConfig& from, LoraConfig& to);

/// Returns the whole config under PEFT's names, with the fields of extra_json. It differs from
/// PEFT's own file in one way: init_lora_weights is always init_name(). The options of EVA, CorDA
/// and LoRA-GA are included only for that init, or if extra_json has them. If target_modules has
/// both a regular expression and names, the names become target_parameters. Call check() first:
/// extra_json that is no JSON object makes this throw an exception of nlohmann::json.
LOWRANK_API nlohmann::ordered_json to_json(const LoraConfig& config);

/// The inverse of to_json(). Fields that are absent or null keep their defaults, and unknown fields
/// go to extra_json. `file` is used in messages. Throws FileError that names the file and the field
/// for a value of the wrong type; the errors of check() are thrown as FileError too.
LOWRANK_API LoraConfig lora_config_from_json(const nlohmann::ordered_json& json,
                                             const std::filesystem::path& file);

/// Returns the fields of extra_json that are not PEFT's, unless they are null, false or empty. They
/// may be misspelled, or may change the numbers in a way that this version does not know.
LOWRANK_API std::vector<std::string> unknown_fields(const LoraConfig& config);
/// Throws FileError if there are any; the message suggests the known field that is nearest to the
/// first.
LOWRANK_API void require_known_fields(const LoraConfig& config, const std::filesystem::path& file);

}  // namespace lowrank
