#pragma once

#include <ATen/core/Tensor.h>

#include <string>
#include <vector>

namespace torch::nn {
class Module;
}

namespace lowrank {

/// A Linear layer that an adapter is attached to.
struct Target {
  std::string name;   // dotted module path; empty where the model itself is the layer
  at::Tensor weight;  // (out, in)
};

/// The layers that `target_modules` names, in the model's order (PEFT, tuners/tuners_utils.py,
/// check_target_module_exists: exact, or ending with "." + name). Throws ArgumentError where a
/// name matches nothing or what is no Linear layer, TensorError where two layers share a weight.
std::vector<Target> find_targets(torch::nn::Module& model,
                                 const std::vector<std::string>& target_modules);

}  // namespace lowrank
