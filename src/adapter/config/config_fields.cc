#include <fmt/format.h>
#include <lowrank/adapter/config_fields.h>
#include <lowrank/error.h>

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <string_view>

namespace lowrank {
namespace {

/// PEFT's fields that are not in the table and change no number here (tuners/lora/config.py and
/// config.py, of all versions up to 0.21.2). Fields that would change the numbers are refused where
/// a file is read (peft/adapter_config.cc), unless they say nothing.
constexpr std::array<std::string_view, 16> kOtherFields = {
    "auto_mapping",      "base_model_name_or_path",
    "enable_lora",       "ephemeral_gpu_offload",
    "fan_in_fan_out",    "inference_mode",
    "loftq_config",      "megatron_core",
    "merge_weights",     "peft_type",
    "peft_version",      "qalora_group_size",
    "revision",          "runtime_config",
    "target_parameters", "task_type"};

}  // namespace

const std::vector<ConfigField>& config_fields() {
  static const std::vector<ConfigField> fields = {
      {"r", "--rank", &LoraConfig::rank, "Rank r of the factors"},
      {"lora_alpha", "--alpha", &LoraConfig::alpha, "Alpha: the update is scaled by alpha / r"},
      {"rank_pattern", "--rank-pattern", &LoraConfig::rank_pattern,
       "Rank per layer; first matching name or regex wins"},
      {"alpha_pattern", "--alpha-pattern", &LoraConfig::alpha_pattern,
       "Alpha per layer, matched like --rank-pattern"},
      {"use_rslora", "--rslora", &LoraConfig::use_rslora,
       "Scale the update by alpha / sqrt(r) (rsLoRA)"},
      {"target_modules", "--target-modules", &LoraConfig::target_modules,
       "Layers to adapt, by path suffix, or all-linear"},
      {"exclude_modules", "--exclude-modules", &LoraConfig::exclude_modules,
       "Layers to leave out even if they match"},
      {"layers_to_transform", "--layers", &LoraConfig::layers_to_transform,
       "Adapt only these indices (3 in layers.3.query)"},
      {"layers_pattern", "--layers-pattern", &LoraConfig::layers_pattern,
       "Name before the index (layers, h); default: any"},
      {"init_lora_weights", "--init", &LoraConfig::init,
       "Initialisation of A and B: kaiming (PEFT's default), gaussian, normal, orthogonal, pissa, "
       "pissa_niter_N, olora, eva, corda or lora_ga"},
      {"use_dora", "--dora", &LoraConfig::use_dora,
       "Train magnitude and direction separately (DoRA)"},
      {"lora_dropout", "--dropout", &LoraConfig::lora_dropout,
       "Dropout probability of the inputs of A"},
      {"lora_bias", "--lora-bias", &LoraConfig::lora_bias, "Add a bias to B"},
      {"bias", "--bias", &LoraConfig::bias, "Biases to train as well: none, all or lora_only"},
      {"modules_to_save", "--modules-to-save", &LoraConfig::modules_to_save,
       "Modules to train and save in full"},
      {"trainable_token_indices", "", &LoraConfig::trainable_token_indices,
       "Rows of embeddings to train"},
      {"eva_config", "", &LoraConfig::eva_config, "Options of --init eva"},
      {"corda_config", "", &LoraConfig::corda_config, "Options of --init corda"},
      {"lora_ga_config", "", &LoraConfig::lora_ga_config, "Options of --init lora_ga"},
  };
  return fields;
}

void copy_field(const ConfigField& field, const LoraConfig& from, LoraConfig& to) {
  std::visit([&](auto member) { to.*member = from.*member; }, field.member);
  if (std::holds_alternative<LoraInit LoraConfig::*>(field.member)) {
    to.init_iterations = from.init_iterations;
  }
}

std::vector<std::string> unknown_fields(const LoraConfig& config) {
  std::vector<std::string> unknown;
  if (config.extra_json.empty()) return unknown;
  const auto extra = nlohmann::ordered_json::parse(config.extra_json);
  for (const auto& [name, value] : extra.items()) {
    const bool is_empty_text = value.is_string() && value.get<std::string>().empty();
    const bool says_nothing = value.is_null() || value == false || is_empty_text ||
                              (value.is_structured() && value.empty());
    const bool known =
        std::find(kOtherFields.begin(), kOtherFields.end(), name) != kOtherFields.end() ||
        std::any_of(config_fields().begin(), config_fields().end(),
                    [&own = name](const auto& field) { return own == field.name; });
    if (!known && !says_nothing) unknown.push_back(name);
  }
  return unknown;
}

void require_known_fields(const LoraConfig& config, const std::filesystem::path& file) {
  const auto unknown = unknown_fields(config);
  if (unknown.empty()) return;
  std::vector<std::string> names(kOtherFields.begin(), kOtherFields.end());
  for (const auto& field : config_fields()) names.emplace_back(field.name);
  fail<FileError>("load",
                  fmt::format("\"{}\" must hold fields of PEFT's LoraConfig", file.string()),
                  fmt::format("\"{}\"", unknown.front()), did_you_mean(unknown.front(), names));
}

}  // namespace lowrank
