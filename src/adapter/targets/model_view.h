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

/// A model as adapters see it, whether it is a torch::nn::Module or a TorchScript module.
namespace lowrank {

using effective::are_experts;
using effective::LayerKind;

/// One module of the model. The model itself is one too.
struct ModelLayer {
  std::string name;  // dotted path; empty for the model itself
  std::string type;  // "Linear": the class without its namespace (and LibTorch's "Impl")
  LayerKind kind = LayerKind::kOther;
  int64_t groups = 1;          // of a convolution
  bool is_transposed = false;  // experts' matrices are (in, out); named as in transformers
  std::vector<std::pair<std::string, at::Tensor>> parameters;  // its own, not its children's
  std::vector<std::pair<std::string, at::Tensor>> buffers;     // likewise
  // Follows train() and eval(). Returns false when the model is gone. For a module on the stack
  // that has no children, it always returns the mode that the module had when it was looked at.
  std::function<bool()> is_training;
  std::shared_ptr<const void> followed;  // for TorchScript: without it is_training returns false
  /// The parameter of this name that the module holds now; undefined if the module is gone, or is
  /// on the stack.
  std::function<at::Tensor(const std::string& own_name)> current;

  /// The parameter of this name; undefined if there is none.
  at::Tensor parameter(const std::string& own_name) const;
  /// The buffers that a forward in training changes: running_mean, running_var and
  /// num_batches_tracked of a BatchNorm or InstanceNorm; empty for a module without running_mean
  /// and running_var.
  std::vector<std::pair<std::string, at::Tensor>> statistics() const;
};

/// Returns the path of what a module calls `name`: "layer.0.weight". For the model itself this is
/// the name alone.
std::string dotted_path(const std::string& module, const std::string& name);

/// Returns all modules, in the model's order, the model first, each once and under its first name.
/// The model may be on the stack. A layer's weight and bias are the members that its forward reads.
/// If somebody assigned to them, these are not the registered parameters.
std::vector<ModelLayer> layers_of(torch::nn::Module& model);
/// The kind of a layer is told by the name of its type, which scripting and tracing keep, if the
/// dimensions of the weight fit that type; otherwise it is kOther. A class derived from Linear is
/// kOther too. The groups of a traced convolution come from the code of its forward.
std::vector<ModelLayer> layers_of(const torch::jit::Module& model);

}  // namespace lowrank
