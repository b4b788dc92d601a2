#pragma once

#include <lowrank/train/history.h>
#include <lowrank/train/trainer.h>

#include "train/optimizer_driver.h"

namespace lowrank {

/// The part of a run's state that is not in tensors.
struct Counters {
  int64_t step = 0;        // steps done
  double loss_sum = 0;     // over the batches of the current epoch
  int64_t loss_count = 0;  // number of batches in loss_sum
  double last_mean = 0;    // mean loss of the epoch before
  double point_sum = 0;    // over the steps since the last point of the history
  double seconds = 0;      // of all parts of the run
  int64_t best_step = 0;
  double best_loss = 0;
};

/// Everything that a run needs to continue as if it had not been interrupted.
struct TrainingState {
  Counters counters;
  TrainHistory history;
  std::vector<at::Tensor> best;  // parameters at best_step; empty before the first validation
  at::Tensor generator;          // state of LibTorch's default generator, which dropout draws from
};

/// Returns the state of a device's default generator: uint8, as at::Generator gives it.
at::Tensor generator_state(at::Device device);
/// Throws FileError if LibTorch rejects the state.
void restore_generator(at::Device device, const at::Tensor& state);

/// Writes one file, atomically, with the parameters, the optimizer's state, the best parameters,
/// the generator's state, the counters and the history.
void write_checkpoint(const std::filesystem::path& path, const std::string& identity,
                      const std::vector<NamedParameter>& parameters, const Stepper& optimizer,
                      const TrainingState& state);

/// Restores the parameters and the optimizer, and returns the rest of the state. Throws FileError
/// if the file is missing or damaged, or has another identity.
TrainingState read_checkpoint(const std::filesystem::path& path, const std::string& identity,
                              const std::vector<NamedParameter>& parameters, Stepper& optimizer);

}  // namespace lowrank
