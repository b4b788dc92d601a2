#pragma once

#include <ATen/core/Tensor.h>
#include <lowrank/adapter/adapter.h>
#include <lowrank/export.h>
#include <lowrank/train/history.h>

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace torch::nn {
class Module;
}
namespace torch::optim {
class Optimizer;
}

namespace lowrank {

/// A tensor that a run trains.
struct NamedParameter {
  std::string name;   ///< in checkpoints and messages
  at::Tensor tensor;  ///< a leaf that requires a gradient
  double rate = 1;    ///< factor on Adam's learning rate, above 0
};

/// Returns what an adapter trains (Adapter::parameters()), B at `lora_plus_ratio` times the
/// learning rate (Adapter::parameter_groups()). Without a name: the first active adapter.
LOWRANK_API std::vector<NamedParameter> trained_parameters(const Adapter& adapter,
                                                           double lora_plus_ratio = 1,
                                                           const std::string& name = {});
/// Returns the parameters of a model that require gradients.
LOWRANK_API std::vector<NamedParameter> trained_parameters(const torch::nn::Module& model);

/// What is trained. The least that a program supplies:
///
///     lowrank::TrainTask task;
///     task.examples = inputs.size(0);
///     task.loss = [&](const at::Tensor& indices) {
///       return torch::mse_loss(model->forward(inputs.index({indices})), targets.index({indices}));
///     };
///     task.parameters = lowrank::trained_parameters(adapter);
///     lowrank::train(task, {.epochs = 10, .batch_size = 32});
struct TrainTask {
  /// The number of examples, whose indices are 0 to examples - 1.
  int64_t examples = 0;
  /// Returns the mean loss over the examples at `indices`, int64 (B) on the CPU: a tensor of one
  /// number whose backward pass reaches the parameters. Validation calls it without gradients.
  std::function<at::Tensor(const at::Tensor& indices)> loss;
  std::vector<NamedParameter> parameters;

  /// Puts the model into train(), for steps, or into eval(), for validation and at the end. If this
  /// is empty, the model stays in its mode.
  std::function<void(bool training)> set_training = {};
  /// Returns further figures on the examples that are held back, by name; called after each
  /// validation, without gradients. They are recorded and decide nothing.
  std::function<Metrics(const at::Tensor& indices)> metrics = {};

  /// The examples to train on, int64 (N); undefined means all that are not held back.
  at::Tensor indices = {};
  /// The examples that are held back for validation, int64 (M), in place of the share that
  /// TrainOptions::validation chooses at random (the end of a time series, for example).
  at::Tensor held_back = {};
  /// The examples that TrainOptions::replay mixes in, int64; undefined if that is 0.
  at::Tensor replay_indices = {};

  /// For examples that come as a stream, in place of `loss` in training: returns the mean loss over
  /// the next batch, or an undefined tensor at the end of the stream, where the run ends. It needs
  /// TrainOptions::steps.
  std::function<at::Tensor()> next_loss = {};
  /// Makes batch number `batch` of the stream, counted from 0, the next one. Without this a run on
  /// a stream cannot be resumed.
  std::function<void(int64_t batch)> seek = {};

  /// An optimizer of LibTorch on the same parameters, which takes the place of Adam. The run uses
  /// its learning rates, times the schedule, and keeps its state in checkpoints. LBFGS, which calls
  /// the loss itself, is refused.
  torch::optim::Optimizer* optimizer = nullptr;
  /// The model to accelerate during the run (optim/accelerate.h), together with Adam; may be null.
  torch::nn::Module* accelerated = nullptr;
  /// The device whose random numbers the loss draws (dropout); checkpoints hold their state.
  at::Device device = at::kCPU;
};

}  // namespace lowrank
