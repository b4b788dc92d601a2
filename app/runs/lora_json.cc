#include "app/runs/lora_json.h"

#include <string>
#include <utility>
#include <vector>

namespace lowrank::app {
namespace {

using Json = nlohmann::ordered_json;

/// Names as a list, a regular expression as a string, as in PEFT's files.
Json to_json(const ModuleSelector& selector) {
  return selector.regex.empty() ? Json(selector.names) : Json(selector.regex);
}

/// [key, value] pairs: JSON's objects forget the order.
template <class T>
Json to_json(const std::vector<std::pair<std::string, T>>& pattern) {
  Json json = Json::array();
  for (const auto& [key, value] : pattern) json.push_back(Json::array({key, value}));
  return json;
}

/// What --config says of EVA, CorDA and LoRA-GA.
Json init_options(const LoraConfig& config) {
  Json json;
  json["rho"] = config.eva_config.rho;
  json["whiten"] = config.eva_config.whiten;
  json["adjust_scaling_factors"] = config.eva_config.adjust_scaling_factors;
  json["corda_method"] = corda_method_name(config.corda_config.corda_method);
  json["direction"] = lora_ga_direction_name(config.lora_ga_config.direction);
  json["scale"] = lora_ga_scale_name(config.lora_ga_config.scale);
  json["stable_gamma"] = config.lora_ga_config.stable_gamma;
  return json;
}

}  // namespace

Json to_json(const LoraConfig& config) {
  Json json;
  json["rank"] = config.rank;
  json["alpha"] = config.alpha;
  json["target_modules"] = to_json(config.target_modules);
  json["exclude_modules"] = to_json(config.exclude_modules);
  json["layers"] = config.layers_to_transform;
  json["layers_pattern"] = config.layers_pattern;
  json["rank_pattern"] = to_json(config.rank_pattern);
  json["alpha_pattern"] = to_json(config.alpha_pattern);
  json["modules_to_save"] = config.modules_to_save;
  json["bias"] = bias_name(config.bias);
  json["init"] = init_name(config);
  json["rslora"] = config.use_rslora;
  json["dora"] = config.use_dora;
  json["lora_bias"] = config.lora_bias;
  json["dropout"] = config.lora_dropout;
  json["init_options"] = init_options(config);
  json["extra"] = config.extra_json;
  return json;
}

}  // namespace lowrank::app
