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
  double rate = 1;  ///< times the learning rate; above 0
};

/// What is trained, on what.
struct TrainingTask {
  /// (B, H·W) of `dtype` on `device` to logits (B, classes).
  std::function<at::Tensor(const at::Tensor&)> forward;
  /// Puts the model into train() or eval(): steps are taken in the first, validation and the end
  /// are in the second. Empty: it stays as it is, dropout included.
  std::function<void(bool training)> set_training = {};
  /// What the optimizer moves; the names are used in checkpoints.
  std::vector<NamedTensor> parameters;
  const ImageDataset* data = nullptr;
  Normalization normalization;
  /// Which examples are trained on: int64 (N).
  at::Tensor indices;
  /// Which are mixed in by `TrainOptions::replay`; undefined where that is 0.
  at::Tensor replay_indices;
  at::Device device = at::kCPU;
  at::ScalarType dtype = at::kFloat;
  /// While the run lasts it is accelerated together with the optimizer (train/adam.h); may be null.
  torch::nn::Module* accelerated = nullptr;
};

struct RunOptions {
  /// Where the state is kept while the run lasts, so that a run that was killed can go on; empty
  /// keeps none.
  std::filesystem::path checkpoint = {};
  /// What the run is, for whoever resumes it; a checkpoint of another identity is refused.
  std::string identity = {};
  /// Go on from `checkpoint`, with LibTorch's default generator as it was; the end is bit-identical
  /// to a run that was not interrupted.
  bool resume = false;
  /// What the command's --resume is to be given, for the message on an interrupt; empty: the
  /// checkpoint's folder.
  std::filesystem::path resume_folder = {};
  /// Title of the progress bar.
  std::string title = "train";
  bool quiet = false;
};

struct TrainResult {
  int64_t steps = 0;
  double mean_loss = 0;  ///< over the last epoch (or all steps where there were fewer)
  double seconds = 0;    ///< in the loop, in this process
  double steps_per_second = 0;
  int64_t best_step = 0;  ///< with validation: whose parameters were kept
  double best_validation_loss = 0;
};

/// Trains by Adam (Kingma & Ba, arXiv 1412.6980; PyTorch's defaults) on cross-entropy. The
/// checkpoint stays: remove it when what was trained is saved. Throws ArgumentError for options or
/// a normalization out of their range, TensorError where the loss or a parameter stops being finite
/// (such parameters are never written), FileError where a checkpoint is missing, damaged or another
/// run's, Interrupted on Ctrl-C, after the state is on disk.
TrainResult train(const TrainingTask& task, const TrainOptions& options,
                  const RunOptions& run = {});

/// The identity that a checkpoint was written with. Throws FileError as train does.
std::string checkpoint_identity(const std::filesystem::path& checkpoint);

}  // namespace lowrank::app
