#include <ATen/ATen.h>
#include <lowrank/adapter/plan.h>

#include <set>
#include <utility>

#include "adapter/targets/targets.h"

namespace lowrank {
namespace {

/// The number of outputs of the layer, which is the length of DoRA's magnitudes and of a bias on B.
int64_t outputs(const Target& target) {
  const bool transposed = target.kind == LayerKind::kConv1D || target.kind == LayerKind::kEmbedding;
  return target.weight.size(transposed ? 1 : 0);
}

int64_t elements_of(const std::vector<ModelLayer>& layers) {
  std::set<std::pair<const void*, int64_t>> seen;
  int64_t elements = 0;
  for (const auto& layer : layers) {
    for (const auto& [name, tensor] : layer.parameters) {
      const void* storage = tensor.storage().unsafeGetStorageImpl();
      if (seen.emplace(storage, tensor.storage_offset()).second) elements += tensor.numel();
    }
  }
  return elements;
}

const std::string& type_of(const std::vector<ModelLayer>& layers, const std::string& name) {
  size_t i = 0;
  while (layers[i].name != name) ++i;
  return layers[i].type;
}

AdapterPlan plan(const std::vector<ModelLayer>& layers, const LoraConfig& config) {
  const auto targets = find_targets(layers, config);
  AdapterPlan plan;
  plan.model_parameters = elements_of(layers);
  for (const auto& target : targets) {
    PlannedLayer layer{.name = target.path(),
                       .kind = type_of(layers, target.layer),
                       .shape = target.weight.sizes().vec(),
                       .rank = target.rank,
                       .alpha = target.alpha,
                       .scaling = target.scaling,
                       .weights = target.weight.numel(),
                       .parameters = factor_elements(target)};
    if (config.use_dora) layer.parameters += outputs(target);
    if (config.lora_bias) layer.parameters += outputs(target);
    plan.trained_parameters += layer.parameters;
    plan.layers.push_back(std::move(layer));
  }
  for (const auto& [name, tensor, is_statistic] : find_whole_parameters(layers, config, targets)) {
    if (is_statistic) continue;
    plan.whole.push_back({name, tensor.sizes().vec(), tensor.numel()});
    plan.trained_parameters += tensor.numel();
  }
  for (const auto& [layer, weight, rows] : find_token_rows(layers, config, targets)) {
    const auto elements = rows.numel() * weight.size(1);
    plan.whole.push_back({layer + ".weight", {rows.numel(), weight.size(1)}, elements});
    plan.trained_parameters += elements;
  }
  return plan;
}

}  // namespace

AdapterPlan plan_adapter(torch::nn::Module& model, const LoraConfig& config) {
  return plan(layers_of(model), config);
}

AdapterPlan plan_adapter(const torch::jit::Module& model, const LoraConfig& config) {
  return plan(layers_of(model), config);
}

}  // namespace lowrank
