#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

namespace lowrank {

/// Parameters that are trained at the same learning rate. To give groups to an optimizer of
/// LibTorch:
///
///     std::vector<torch::optim::OptimizerParamGroup> groups;
///     for (const auto& group : adapter.parameter_groups(1e-4, 16)) {
///       groups.emplace_back(group.parameters, std::make_unique<torch::optim::AdamOptions>(
///                                                 group.learning_rate));
///     }
///     torch::optim::Adam optimizer(groups);
struct ParameterGroup {
  std::vector<at::Tensor> parameters;
  double learning_rate;
};

}  // namespace lowrank
