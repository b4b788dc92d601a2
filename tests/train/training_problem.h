#pragma once

#include <ATen/ATen.h>

#include <functional>
#include <string>
#include <vector>

#include "app/models/mlp.h"
#include "app/train/trainer.h"

namespace lowrank::app {

/// Forty images of 4 x 4 random pixels with random labels, and a small net for them.
struct TrainingProblem {
  ImageDataset data;
  Mlp model = nullptr;
  double dropout = 0;                               // of the inputs, while the model is in train()
  int64_t forwards = 0;                             // number of forwards so far
  std::function<void(int64_t forward)> on_forward;  // called with the forward's number, from 1

  explicit TrainingProblem(uint64_t weights_seed = 0, at::ScalarType dtype = at::kFloat) {
    at::manual_seed(99);
    data = {at::randint(0, 256, {40, 4, 4}, at::kByte), at::randint(0, 10, {40}, at::kLong),
            "random", 10};
    at::manual_seed(weights_seed);
    model = Mlp(MlpOptions{.sizes = {16, 12, 10}});
    model->to(dtype);
  }

  TrainingTask task() {
    TrainingTask task;
    task.forward = [this](const at::Tensor& x) {
      ++forwards;
      if (on_forward) on_forward(forwards);
      return model->forward(dropout > 0 ? at::dropout(x, dropout, model->is_training()) : x);
    };
    task.set_training = [this](bool training) { model->train(training); };
    for (const auto& item : model->named_parameters()) {
      task.parameters.push_back({item.key(), item.value()});
    }
    task.data = &data;
    task.indices = at::arange(data.size(), at::kLong);
    task.dtype = model->parameters().front().scalar_type();
    return task;
  }

  /// Returns all parameters in one vector.
  at::Tensor weights() const {
    std::vector<at::Tensor> parts;
    for (const auto& parameter : model->parameters()) parts.push_back(parameter.detach().flatten());
    return at::cat(parts);
  }
  at::Tensor gradients() const {
    std::vector<at::Tensor> parts;
    for (const auto& parameter : model->parameters()) parts.push_back(parameter.grad().flatten());
    return at::cat(parts);
  }
};

inline RunOptions quiet_run() { return {.quiet = true}; }

}  // namespace lowrank::app
