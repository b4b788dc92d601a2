#pragma once

#include <lowrank/train/train_task.h>

#include <functional>

#include "app/images/dataset.h"

namespace lowrank::app {

/// A classifier and the images that it is trained on.
struct ImageTask {
  /// Maps inputs (B, H·W) of `dtype` on `device` to logits (B, classes).
  std::function<at::Tensor(const at::Tensor&)> forward;
  const ImageDataset* data = nullptr;
  Normalization normalization{};
  at::Device device = at::kCPU;
  at::ScalarType dtype = at::kFloat;
};

/// Returns the logits of the images at `indices` (int64 (B)).
at::Tensor logits_at(const ImageTask& task, const at::Tensor& indices);
/// Returns their mean cross-entropy.
at::Tensor loss_at(const ImageTask& task, const at::Tensor& indices);

/// Returns the task of train() on these images; what it trains is still to be given. Throws
/// ArgumentError for a normalization that check() refuses.
TrainTask train_task(const ImageTask& task);

}  // namespace lowrank::app
