#pragma once

#include <lowrank/adapter/lora_config.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace lowrank {

/// What a config is written for.
struct PeftTargets {
  std::vector<std::string> modules{};     // paths of the layers whose "weight" is adapted
  std::vector<std::string> parameters{};  // paths of what is adapted else: "lstm.weight_ih_l0"
  bool fan_in_fan_out = false;            // one of the layers is a transformers' Conv1D
  std::string base_model{};               // base_model_name_or_path; empty: the config's own
};

/// PEFT's adapter_config.json (tuners/lora/config.py), keys sorted but those of the patterns, whose
/// order matters. target_modules is as the config has it where PEFT finds the same layers by it,
/// else the layers' paths; parameters become target_parameters. With an init that uses the base
/// (pissa, olora, ...) PEFT changes the base when it loads the file: give another init where the
/// factors are for the base as it is.
nlohmann::ordered_json to_peft_json(const LoraConfig& config, const PeftTargets& targets);

/// The other way; `file` is for messages. target_parameters are added to the target_modules, and
/// init_lora_weights false becomes PEFT's default, since B starts at zero here. Throws as
/// read_lora_config.
LoraConfig from_peft_json(const nlohmann::ordered_json& json, const std::filesystem::path& file);

}  // namespace lowrank
