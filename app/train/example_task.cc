#include "app/train/example_task.h"

#include <ATen/ATen.h>

namespace lowrank::app {

at::Tensor outputs_at(const ExampleTask& task, const at::Tensor& indices) {
  const auto inputs = batch_inputs(*task.data, indices, task.normalization, task.dtype);
  return task.forward(inputs.to(task.device));
}

at::Tensor loss_at(const ExampleTask& task, const at::Tensor& indices) {
  const auto labels = batch_labels(*task.data, indices).to(task.device);
  const auto outputs = outputs_at(task, indices);
  if (task.data->classes > 0) return at::cross_entropy_loss(outputs, labels);
  return at::mse_loss(outputs.reshape(labels.sizes()), labels.to(outputs.scalar_type()));
}

TrainTask train_task(const ExampleTask& task) {
  check(task.normalization);
  TrainTask general;
  general.examples = task.data->size();
  general.loss = [task](const at::Tensor& indices) { return loss_at(task, indices); };
  general.device = task.device;
  return general;
}

}  // namespace lowrank::app
