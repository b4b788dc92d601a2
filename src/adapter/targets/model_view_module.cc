#include <torch/nn/module.h>
#include <torch/nn/modules/conv.h>
#include <torch/nn/modules/embedding.h>
#include <torch/nn/modules/linear.h>

#include <algorithm>
#include <memory>
#include <unordered_set>

#include "adapter/targets/model_view.h"

namespace lowrank {
namespace {

using torch::nn::Module;

/// C++ modules have no attributes that could be looked up, so a buffer of this name holds the flag.
bool is_transposed(const ModelLayer& layer) {
  return std::any_of(layer.buffers.begin(), layer.buffers.end(), [](const auto& buffer) {
    const auto& [name, flag] = buffer;
    return name == "is_transposed" && flag.numel() == 1 && flag.template item<bool>();
  });
}

/// Returns the name that people use: "Linear" for "torch::nn::LinearImpl".
std::string type_name(const Module& module) {
  auto name = module.name();
  name = name.substr(0, name.find('<'));
  if (const auto colon = name.rfind(':'); colon != std::string::npos) name.erase(0, colon + 1);
  if (name.size() > 4 && name.ends_with("Impl")) name.resize(name.size() - 4);
  return name;
}

void set_parameter(ModelLayer& layer, const char* name, const at::Tensor& member) {
  for (auto& [own_name, tensor] : layer.parameters) {
    if (own_name == name && member.defined()) tensor = member;
  }
}

template <class Impl>
const Impl* take_as(const Module& module, LayerKind kind, ModelLayer& layer) {
  const auto* impl = dynamic_cast<const Impl*>(&module);
  if (impl == nullptr) return nullptr;
  layer.kind = kind;
  set_parameter(layer, "weight", impl->weight);
  return impl;
}

template <class Impl>
bool take_as_conv(const Module& module, ModelLayer& layer) {
  const auto* conv = take_as<Impl>(module, LayerKind::kConv, layer);
  if (conv == nullptr) return false;
  set_parameter(layer, "bias", conv->bias);
  layer.groups = conv->options.groups();
  return true;
}

void tell_kind(const Module& module, ModelLayer& layer) {
  using namespace torch::nn;
  if (const auto* linear = take_as<LinearImpl>(module, LayerKind::kLinear, layer)) {
    set_parameter(layer, "bias", linear->bias);
    return;
  }
  if (take_as<EmbeddingImpl>(module, LayerKind::kEmbedding, layer) != nullptr) return;
  if (take_as_conv<Conv1dImpl>(module, layer) || take_as_conv<Conv2dImpl>(module, layer) ||
      take_as_conv<Conv3dImpl>(module, layer)) {
    return;
  }
  // LibTorch has no Conv1D, so this is a class of the user's own, modelled on that of transformers.
  const auto weight = layer.parameter("weight");
  if (layer.type == "Conv1D" && weight.defined() && weight.dim() == 2) {
    layer.kind = LayerKind::kConv1D;
  }
}

std::function<bool()> follow(const std::weak_ptr<const Module>& module) {
  return [module] {
    const auto alive = module.lock();
    return alive != nullptr && alive->is_training();
  };
}

/// What does not follow the module.
ModelLayer snapshot(const std::string& name, const Module& module) {
  ModelLayer layer;
  layer.name = name;
  layer.type = type_name(module);
  for (const auto& item : module.named_parameters(/*recurse=*/false)) {
    layer.parameters.emplace_back(item.key(), item.value());
  }
  for (const auto& item : module.named_buffers(/*recurse=*/false)) {
    layer.buffers.emplace_back(item.key(), item.value());
  }
  layer.is_transposed = is_transposed(layer);
  tell_kind(module, layer);
  return layer;
}

ModelLayer view(const std::string& name, const Module& module) {
  auto layer = snapshot(name, module);
  const auto followed = module.weak_from_this();
  layer.is_training = follow(followed);
  layer.current = [followed](const std::string& own_name) {
    const auto alive = followed.lock();
    return alive == nullptr ? at::Tensor() : snapshot("", *alive).parameter(own_name);
  };
  return layer;
}

}  // namespace

std::string dotted_path(const std::string& module, const std::string& name) {
  return module.empty() ? name : module + "." + name;
}

at::Tensor ModelLayer::parameter(const std::string& own_name) const {
  const auto it = std::find_if(parameters.begin(), parameters.end(),
                               [&](const auto& item) { return item.first == own_name; });
  return it == parameters.end() ? at::Tensor() : it->second;
}

std::vector<std::pair<std::string, at::Tensor>> ModelLayer::statistics() const {
  std::vector<std::pair<std::string, at::Tensor>> found;
  int running = 0;
  for (const auto& [own_name, tensor] : buffers) {
    const bool is_running = own_name == "running_mean" || own_name == "running_var";
    if (!tensor.defined() || !(is_running || own_name == "num_batches_tracked")) continue;
    running += is_running ? 1 : 0;
    found.emplace_back(own_name, tensor);
  }
  if (running < 2) found.clear();
  return found;
}

std::vector<ModelLayer> layers_of(Module& model) {
  std::vector<ModelLayer> layers = {view("", model)};
  std::unordered_set<const Module*> seen = {&model};
  // include_self requires that a shared_ptr owns the model, which is not so for a model on the
  // stack.
  for (const auto& item : model.named_modules(/*name_prefix=*/"", /*include_self=*/false)) {
    if (!seen.insert(item.value().get()).second) continue;
    layers.push_back(view(item.key(), *item.value()));
  }
  if (model.weak_from_this().expired()) {
    // Nothing tells when a model on the stack is gone. Its first child is followed instead, because
    // train() and eval() reach the children too.
    layers[0].is_training = layers.size() > 1
                                ? layers[1].is_training
                                : [training = model.is_training()] { return training; };
  }
  return layers;
}

}  // namespace lowrank
