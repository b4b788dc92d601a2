#include "adapter/targets.h"

#include <lowrank/error.h>
#include <torch/nn/modules/linear.h>

#include <algorithm>
#include <utility>

namespace lowrank {
namespace {

constexpr const char* kAllLinear = "all-linear";

struct Layer {
  std::string name;
  torch::nn::Module* module;
  torch::nn::LinearImpl* linear;  // null for other kinds
};

std::vector<Layer> layers_of(torch::nn::Module& model) {
  std::vector<Layer> layers;
  const auto add = [&](const std::string& name, torch::nn::Module* module) {
    layers.push_back({name, module, dynamic_cast<torch::nn::LinearImpl*>(module)});
  };
  add("", &model);
  // include_self would need the model to be owned by a shared_ptr, which one on the stack is not.
  for (const auto& item : model.named_modules(/*name_prefix=*/"", /*include_self=*/false)) {
    add(item.key(), item.value().get());
  }
  return layers;
}

bool matches(const std::string& layer, const std::string& target) {
  return layer == target || layer.ends_with("." + target);
}

/// Full paths and last components of the Linear layers: what a user may have meant.
std::vector<std::string> linear_names(const std::vector<Layer>& layers) {
  std::vector<std::string> names;
  for (const auto& layer : layers) {
    if (layer.linear != nullptr) names.push_back(layer.name);
  }
  return names;
}

[[noreturn]] void fail_unmatched(const std::string& target, const std::vector<Layer>& layers) {
  auto names = linear_names(layers);
  if (names.empty()) {
    fail<ArgumentError>("attach", "the model must have a Linear layer", "a model without one");
  }
  const auto found = fmt::format("\"{}\", which matches none of {}", target, list_names(names));
  for (const auto& layer : layers) {
    if (layer.linear != nullptr && layer.name.find('.') != std::string::npos) {
      names.push_back(layer.name.substr(layer.name.rfind('.') + 1));
    }
  }
  fail<ArgumentError>("attach", "each of target_modules must match a layer", found,
                      did_you_mean(target, names));
}

void require_linear(const Layer& layer, const std::string& target) {
  if (layer.linear != nullptr) return;
  fail<ArgumentError>(
      "attach", "target_modules must match Linear layers",
      fmt::format("\"{}\", which matches \"{}\", a {}", target, layer.name, layer.module->name()));
}

/// Which layers are wanted, in the model's order.
std::vector<const Layer*> select(const std::vector<Layer>& layers,
                                 const std::vector<std::string>& target_modules) {
  std::vector<bool> wanted(layers.size(), false);
  for (const auto& target : target_modules) {
    const bool all = target == kAllLinear;
    bool matched = false;
    for (size_t i = 0; i < layers.size(); ++i) {
      if (all ? layers[i].linear == nullptr : !matches(layers[i].name, target)) continue;
      require_linear(layers[i], target);
      wanted[i] = matched = true;
    }
    if (!matched) fail_unmatched(target, layers);
  }
  std::vector<const Layer*> selected;
  for (size_t i = 0; i < layers.size(); ++i) {
    if (wanted[i]) selected.push_back(&layers[i]);
  }
  return selected;
}

/// The tensors a layer owns. A Linear's weight member is what its forward reads, and is another
/// tensor than the registered one where someone tied it by assignment.
std::vector<std::pair<std::string, at::Tensor>> tensors_of(const Layer& layer) {
  std::vector<std::pair<std::string, at::Tensor>> tensors;
  for (const auto& parameter : layer.module->named_parameters(/*recurse=*/false)) {
    tensors.emplace_back(parameter.key(), parameter.value());
  }
  if (layer.linear != nullptr) tensors.emplace_back("weight", layer.linear->weight);
  return tensors;
}

/// A weight that two layers own would be adapted in both: nothing tells the two products apart.
void require_unshared(const Layer& target, const std::vector<Layer>& layers) {
  const auto& weight = target.linear->weight;
  for (const auto& other : layers) {
    if (other.module == target.module) continue;
    for (const auto& [name, tensor] : tensors_of(other)) {
      if (!tensor.is_alias_of(weight) || tensor.storage_offset() != weight.storage_offset()) {
        continue;
      }
      fail<TensorError>("attach", "an adapted weight must belong to one layer",
                        fmt::format("\"{}.weight\" and \"{}.{}\", which are one tensor",
                                    target.name, other.name, name),
                        "Untie them first (give one a clone of the weight).");
    }
  }
}

}  // namespace

std::vector<Target> find_targets(torch::nn::Module& model,
                                 const std::vector<std::string>& target_modules) {
  if (target_modules.empty()) {
    fail<ArgumentError>("attach", "target_modules must name at least one layer", "an empty list");
  }
  const auto layers = layers_of(model);
  std::vector<Target> targets;
  for (const auto* layer : select(layers, target_modules)) {
    require_unshared(*layer, layers);
    targets.push_back({layer->name, layer->linear->weight});
  }
  return targets;
}

}  // namespace lowrank
