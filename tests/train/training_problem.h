#pragma once

#include <ATen/ATen.h>
#include <lowrank/train/trainer.h>

#include <functional>
#include <string>
#include <vector>

#include "app/data/dataset.h"
#include "app/models/mlp.h"
#include "app/train/example_task.h"

namespace lowrank {

/// Forty images of 4 x 4 random pixels with random labels, and a small net for them.
struct TrainingProblem {
  app::Dataset data;
  app::Mlp model = nullptr;
  double dropout = 0;                               // of the inputs, while the model is in train()
  int64_t forwards = 0;                             // number of forwards so far
  std::function<void(int64_t forward)> on_forward;  // called with the forward's number, from 1

  explicit TrainingProblem(uint64_t weights_seed = 0, at::ScalarType dtype = at::kFloat) {
    at::manual_seed(99);
    data = {at::randint(0, 256, {40, 4, 4}, at::kByte), at::randint(0, 10, {40}, at::kLong),
            "random", 10};
    at::manual_seed(weights_seed);
    model = app::Mlp(app::MlpOptions{.sizes = {16, 12, 10}});
    model->to(dtype);
  }

  app::ExampleTask images() {
    return {.forward =
                [this](const at::Tensor& x) {
                  ++forwards;
                  if (on_forward) on_forward(forwards);
                  return model->forward(dropout > 0 ? at::dropout(x, dropout, model->is_training())
                                                    : x);
                },
            .data = &data,
            .dtype = model->parameters().front().scalar_type()};
  }
  TrainTask task() { return task(images()); }
  TrainTask task(const app::ExampleTask& images) {
    auto task = app::train_task(images);
    task.set_training = [this](bool training) { model->train(training); };
    task.parameters = trained_parameters(*model);
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

}  // namespace lowrank
