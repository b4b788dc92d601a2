#pragma once

#include <lowrank/adapter/lora_config.h>
#include <lowrank/io/safetensors.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace lowrank {

/// The layers and the base that a config is written for.
struct PeftTargets {
  std::vector<std::string> modules{};     // paths of the layers whose "weight" is adapted
  std::vector<std::string> parameters{};  // paths of other adapted parameters: "lstm.weight_ih_l0"
  bool fan_in_fan_out = false;            // whether a layer is a Conv1D of transformers
  std::string base_model{};               // base_model_name_or_path; empty: that of the config
};

/// Returns PEFT's adapter_config.json (tuners/lora/config.py). The keys are sorted, except for
/// those of the patterns, whose order matters. target_modules is as in the config if PEFT finds the
/// same layers by it, otherwise it lists the layers' paths; parameters become target_parameters.
/// With an init that uses the base (pissa, olora, ...) PEFT changes the base when it loads the
/// file, so give another init if the factors are for the unchanged base.
nlohmann::ordered_json to_peft_json(const LoraConfig& config, const PeftTargets& targets);

/// The inverse of to_peft_json(). `file` is used in messages. target_parameters are added to
/// target_modules. If init_lora_weights is false it becomes PEFT's default, since B starts at zero
/// here. Throws as read_lora_config() does.
LoraConfig from_peft_json(const nlohmann::ordered_json& json, const std::filesystem::path& file);

/// The key of config_fingerprint() in the metadata of files that lowrank writes. Files without it
/// match every config.
constexpr const char* kConfigKey = "lowrank.config_sha256";

/// Returns the SHA-256 of what a config says about the tensors beside it: all fields but those that
/// no number depends on.
std::string config_fingerprint(const LoraConfig& config);
/// Returns whether the config is the one that the file was saved with.
bool config_matches(const SafetensorsFile& file, const LoraConfig& config);

}  // namespace lowrank
