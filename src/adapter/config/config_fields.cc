#include <lowrank/adapter/config_fields.h>

namespace lowrank {

const std::vector<ConfigField>& config_fields() {
  static const std::vector<ConfigField> fields = {
      {"r", "--rank", &LoraConfig::rank, "Rank r of the factors"},
      {"lora_alpha", "--alpha", &LoraConfig::alpha, "The update is scaled by alpha / r"},
      {"rank_pattern", "--rank-pattern", &LoraConfig::rank_pattern,
       "Ranks by layer; the first name or regular expression that matches counts"},
      {"alpha_pattern", "--alpha-pattern", &LoraConfig::alpha_pattern, "Alphas by layer"},
      {"use_rslora", "--rslora", &LoraConfig::use_rslora, "Scale by alpha / sqrt(r)"},
      {"target_modules", "--target-modules", &LoraConfig::target_modules,
       "Layers to adapt, by the ends of their paths, or all-linear"},
      {"exclude_modules", "--exclude-modules", &LoraConfig::exclude_modules,
       "Layers to leave out although they match"},
      {"layers_to_transform", "--layers", &LoraConfig::layers_to_transform,
       "Only the layers with these indices: 3 of layers.3.query"},
      {"layers_pattern", "--layers-pattern", &LoraConfig::layers_pattern,
       "The name before such an index (layers, h); any name if not given"},
      {"init_lora_weights", "--init", &LoraConfig::init,
       "How the factors start: kaiming (PEFT's default), gaussian, normal, orthogonal, pissa, "
       "pissa_niter_N, olora, eva, corda or lora_ga"},
      {"use_dora", "--dora", &LoraConfig::use_dora, "Train magnitudes beside directions (DoRA)"},
      {"lora_dropout", "--dropout", &LoraConfig::lora_dropout,
       "Share of the inputs of A zeroed in training"},
      {"lora_bias", "--lora-bias", &LoraConfig::lora_bias, "Give B a bias"},
      {"bias", "--bias", &LoraConfig::bias,
       "Biases trained beside the factors: none, all or lora_only"},
      {"modules_to_save", "--modules-to-save", &LoraConfig::modules_to_save,
       "Modules trained whole, in a copy"},
      {"trainable_token_indices", "", &LoraConfig::trainable_token_indices,
       "Rows of embeddings that are trained"},
      {"eva_config", "", &LoraConfig::eva_config, "Options of the init eva"},
      {"corda_config", "", &LoraConfig::corda_config, "Options of the init corda"},
      {"lora_ga_config", "", &LoraConfig::lora_ga_config, "Options of the init lora_ga"},
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
