#pragma once

#include <lowrank/adapter/adapter.h>

#include "adapter/effective/effective_weight.h"

namespace lowrank {

/// One of the model's own parameters, as it was before attach.
struct BaseParameter {
  std::string name;
  at::Tensor tensor;
  bool required_grad;
};

struct AttachedLayer {
  std::string name;
  at::Tensor weight;  // the module's own parameter: it follows module.to()
  std::shared_ptr<effective::Factors> factors;
  at::Tensor unmerged;  // W before merge(); defined only while merged
};

struct Adapter::State {
  LoraConfig config;
  std::shared_ptr<effective::AdapterSwitch> on = std::make_shared<effective::AdapterSwitch>();
  std::vector<AttachedLayer> layers;
  std::vector<BaseParameter> base;
};

/// The fingerprint of these parameters' stored values; see base_fingerprint.
std::string fingerprint_of(const std::vector<BaseParameter>& parameters);

/// All parameters of `model`, also of one that lives on the stack.
std::vector<BaseParameter> base_parameters(const torch::nn::Module& model);

}  // namespace lowrank
