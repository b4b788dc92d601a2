#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "effective/layer_kind.h"

namespace torch::nn {
class Module;
}
namespace torch::jit {
struct Module;
}

/// A model as an adapter sees it, a torch::nn::Module or a TorchScript file alike.
namespace lowrank {

using effective::are_experts;
using effective::LayerKind;

/// One module of the model, the model itself included.
struct ModelLayer {
  std::string name;  // dotted path; empty for the model itself
  std::string type;  // "Linear": the class without its namespace (and LibTorch's "Impl")
  LayerKind kind = LayerKind::kOther;
  int64_t groups = 1;          // of a convolution
  bool is_transposed = false;  // its experts' matrices lie (in, out), which transformers names so
  std::vector<std::pair<std::string, at::Tensor>> parameters;  // its own, not its children's
  std::vector<std::pair<std::string, at::Tensor>> buffers;     // likewise
  // Follows train() and eval(). When the model is gone it gives false; of a module without children
  // that lives on the stack, what it was when it was looked at.
  std::function<bool()> is_training;
  std::shared_ptr<const void> followed;  // of TorchScript: is_training gives false without it

  /// The parameter of this name; undefined where there is none.
  at::Tensor parameter(const std::string& own_name) const;
};

/// "layer.0.weight": the path of what a module names so; the name alone in the model itself.
std::string dotted_path(const std::string& module, const std::string& name);

/// All modules, in the model's order, the model first, each once and by its first name. The model
/// may live on the stack. A layer's weight and bias are the members that its forward reads, which
/// are other tensors than the registered ones where somebody assigned to them.
std::vector<ModelLayer> layers_of(torch::nn::Module& model);
/// Kinds are told by the names of the types that scripting and tracing keep, as far as the weight's
/// dimensions allow, else kOther; a class derived from Linear is kOther too. The groups of a traced
/// convolution stand in the code of its forward.
std::vector<ModelLayer> layers_of(const torch::jit::Module& model);

}  // namespace lowrank
