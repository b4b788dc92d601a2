#include <torch/csrc/jit/api/module.h>
#include <torch/csrc/jit/ir/constants.h>
#include <torch/csrc/jit/ir/ir.h>

#include <array>
#include <cstring>
#include <memory>
#include <unordered_set>

#include "adapter/targets/model_view.h"

namespace lowrank {
namespace {

using torch::jit::Module;

constexpr const char* kTorch = "__torch__.torch.nn.modules.";
constexpr const char* kTransformers = "__torch__.transformers.";

struct KnownType {
  const char* package;
  const char* type;
  LayerKind kind;
  int64_t dimensions;  // of its weight
};
constexpr std::array<KnownType, 7> kKnownTypes = {{
    {kTorch, "Linear", LayerKind::kLinear, 2},
    // out_proj of torch.nn.MultiheadAttention: a subclass of Linear, which PEFT treats as a Linear
    // too.
    {kTorch, "NonDynamicallyQuantizableLinear", LayerKind::kLinear, 2},
    {kTorch, "Embedding", LayerKind::kEmbedding, 2},
    {kTorch, "Conv1d", LayerKind::kConv, 3},
    {kTorch, "Conv2d", LayerKind::kConv, 4},
    {kTorch, "Conv3d", LayerKind::kConv, 5},
    {kTransformers, "Conv1D", LayerKind::kConv1D, 2},
}};

LayerKind kind_of(const std::string& full_type, const std::string& type, const at::Tensor& weight) {
  if (!weight.defined()) return LayerKind::kOther;
  for (const auto& known : kKnownTypes) {
    if (type == known.type && full_type.starts_with(known.package) &&
        weight.dim() == known.dimensions) {
      return known.kind;
    }
  }
  return LayerKind::kOther;
}

/// Tracing keeps no attributes: the groups are a constant argument in the forward's code.
int64_t traced_groups(const Module& module) {
  const auto forward = module.find_method("forward");
  if (!forward) return 1;
  for (const auto* node : forward->graph()->nodes()) {
    if (std::strcmp(node->kind().toQualString(), "aten::_convolution") != 0) continue;
    const auto groups = torch::jit::toIValue(node->namedInput("groups"));
    if (groups && groups->isInt()) return groups->toInt();
  }
  return 1;
}

int64_t groups_of(const Module& module) {
  if (module.hasattr("groups")) return module.attr("groups").toInt();
  if (const auto constant = module.type()->findConstant("groups")) return constant->toInt();
  return traced_groups(module);
}

bool is_transposed(const Module& module) {
  constexpr const char* name = "is_transposed";
  if (module.hasattr(name)) return module.attr(name).isBool() && module.attr(name).toBool();
  const auto constant = module.type()->findConstant(name);
  return constant && constant->isBool() && constant->toBool();
}

/// Even a weak reference keeps what the module holds in memory, which includes its weights, and the
/// weights hold this function. So that they can be freed, the view of the layer owns the reference,
/// not the function.
void follow(const Module& module, ModelLayer& layer) {
  using Weak = c10::weak_intrusive_ptr<c10::ivalue::Object>;
  const auto held = std::make_shared<const Weak>(module._ivalue());
  layer.followed = held;
  const auto alive = [link = std::weak_ptr<const Weak>(held)] {
    const auto weak = link.lock();
    return weak ? weak->lock() : c10::intrusive_ptr<c10::ivalue::Object>();
  };
  layer.is_training = [alive] {
    const auto object = alive();
    return object && Module(object).is_training();
  };
  layer.current = [alive](const std::string& own_name) {
    const auto object = alive();
    return object ? Module(object).attr(own_name, at::Tensor()).toTensor() : at::Tensor();
  };
}

ModelLayer view(const std::string& name, const Module& module) {
  ModelLayer layer;
  layer.name = name;
  std::string full_type;
  if (const auto type = module.type()->name()) {
    full_type = type->qualifiedName();
    layer.type = type->name();
  }
  for (const auto& item : module.named_parameters(/*recurse=*/false)) {
    layer.parameters.emplace_back(item.name, item.value);
  }
  for (const auto& item : module.named_buffers(/*recurse=*/false)) {
    layer.buffers.emplace_back(item.name, item.value);
  }
  layer.kind = kind_of(full_type, layer.type, layer.parameter("weight"));
  if (layer.kind == LayerKind::kLinear) layer.type = "Linear";
  if (layer.kind == LayerKind::kConv) layer.groups = groups_of(module);
  layer.is_transposed = is_transposed(module);
  follow(module, layer);
  return layer;
}

}  // namespace

std::vector<ModelLayer> layers_of(const Module& model) {
  std::vector<ModelLayer> layers;
  std::unordered_set<const c10::ivalue::Object*> seen;
  for (const auto& item : model.named_modules()) {
    if (!seen.insert(item.value._ivalue().get()).second) continue;
    layers.push_back(view(item.name, item.value));
  }
  return layers;
}

}  // namespace lowrank
