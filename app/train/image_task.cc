#include "app/train/image_task.h"

#include <ATen/ATen.h>

namespace lowrank::app {

at::Tensor logits_at(const ImageTask& task, const at::Tensor& indices) {
  const auto inputs = batch_inputs(*task.data, indices, task.normalization, task.dtype);
  return task.forward(inputs.to(task.device));
}

at::Tensor loss_at(const ImageTask& task, const at::Tensor& indices) {
  const auto labels = batch_labels(*task.data, indices);
  return at::cross_entropy_loss(logits_at(task, indices), labels.to(task.device));
}

TrainTask train_task(const ImageTask& task) {
  check(task.normalization);
  TrainTask general;
  general.examples = task.data->size();
  general.loss = [task](const at::Tensor& indices) { return loss_at(task, indices); };
  general.device = task.device;
  return general;
}

}  // namespace lowrank::app
