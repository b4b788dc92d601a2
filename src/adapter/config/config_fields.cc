#include <lowrank/adapter/config_fields.h>

namespace lowrank {

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

}  // namespace lowrank
