#pragma once

#include <ATen/core/Tensor.h>

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "app/images/dataset.h"
#include "app/train/train_options.h"

namespace torch::nn {
class Module;
}

namespace lowrank::app {

struct NamedTensor {
  std::string name;
  at::Tensor tensor;
  double rate = 1;  ///< factor on the learning rate, above 0
};

/// What is trained, and on which data.
struct TrainingTask {
  /// Maps inputs (B, H·W) of `dtype` on `device` to logits (B, classes).
  std::function<at::Tensor(const at::Tensor&)> forward;
  /// Puts the model into train(), for steps, or into eval(), for validation and at the end. If this
  /// is empty, the model stays in its mode.
  std::function<void(bool training)> set_training = {};
  /// The tensors that the optimizer updates; the names are used in checkpoints.
  std::vector<NamedTensor> parameters;
  const ImageDataset* data = nullptr;
  Normalization normalization;
  /// Indices of the examples to train on: int64 (N).
  at::Tensor indices;
  /// Indices of the examples that `TrainOptions::replay` mixes in; undefined if that is 0.
  at::Tensor replay_indices;
  at::Device device = at::kCPU;
  at::ScalarType dtype = at::kFloat;
  /// The model to accelerate, together with the optimizer, during the run (optim/adam.h); may be
  /// null.
  torch::nn::Module* accelerated = nullptr;
};

struct RunOptions {
  /// The file in which the state is kept during the run, so that a run that was killed can be
  /// resumed; empty means that none is written.
  std::filesystem::path checkpoint = {};
  /// Says which run this is. A checkpoint with another identity is refused.
  std::string identity = {};
  /// Resume from `checkpoint`, with LibTorch's default generator in the state that it was in. The
  /// result is bit-identical to that of an uninterrupted run.
  bool resume = false;
  /// The folder that the message on an interrupt names for --resume; empty means the checkpoint's
  /// folder.
  std::filesystem::path resume_folder = {};
  /// Title of the progress bar.
  std::string title = "train";
  bool quiet = false;
};

struct TrainResult {
  int64_t steps = 0;
  double mean_loss = 0;  ///< over the last epoch, or over all steps if there were fewer
  double seconds = 0;    ///< spent in the loop by this process
  double steps_per_second = 0;
  int64_t best_step = 0;  ///< with validation: the step whose parameters were kept
  double best_validation_loss = 0;
};

/// Trains with Adam (Kingma & Ba, arXiv 1412.6980; PyTorch's defaults) on cross-entropy. The
/// checkpoint is kept: remove it once the result is saved.
///
/// Throws ArgumentError for options or a normalization out of range, TensorError if the loss or a
/// parameter stops being finite (parameters that are not finite are never written), FileError if a
/// checkpoint is missing, damaged or of another run, and Interrupted on Ctrl-C, after the state was
/// written to disk.
TrainResult train(const TrainingTask& task, const TrainOptions& options,
                  const RunOptions& run = {});

/// Returns the identity that a checkpoint was written with. Throws FileError like train().
std::string checkpoint_identity(const std::filesystem::path& checkpoint);

}  // namespace lowrank::app
