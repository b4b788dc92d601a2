#pragma once

#include <lowrank/train/train_task.h>

#include <functional>

#include "app/data/dataset.h"

namespace lowrank::app {

/// A model and the examples that it is trained on.
struct ExampleTask {
  /// Maps inputs (B, values) of `dtype` on `device` to logits (B, classes), or to numbers (B, ...).
  std::function<at::Tensor(const at::Tensor&)> forward;
  const Dataset* data = nullptr;
  Normalization normalization{};
  at::Device device = at::kCPU;
  at::ScalarType dtype = at::kFloat;
};

/// Returns the model's outputs for the examples at `indices` (int64 (B)).
at::Tensor outputs_at(const ExampleTask& task, const at::Tensor& indices);
/// Returns their mean loss: cross-entropy for classes, the squared error for numbers.
at::Tensor loss_at(const ExampleTask& task, const at::Tensor& indices);

/// Returns the task of train() on these examples; what it trains is still to be given. Throws
/// ArgumentError for a normalization that check() refuses.
TrainTask train_task(const ExampleTask& task);

}  // namespace lowrank::app
