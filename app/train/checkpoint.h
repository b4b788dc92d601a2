#pragma once

#include <lowrank/optim/adam.h>

#include "app/train/trainer.h"

namespace lowrank::app {

/// The part of a run's state that is not tensors.
struct Counters {
  int64_t step = 0;        // steps done
  double loss_sum = 0;     // over the batches of the current epoch
  int64_t loss_count = 0;  // how many
  double last_mean = 0;    // of the epoch before it
  int64_t best_step = 0;
  double best_loss = 0;
};

/// All that a run needs to go on as if nothing had happened.
struct TrainingState {
  Counters counters;
  std::vector<at::Tensor> best;  // parameters at best_step; empty before the first validation
  at::Tensor generator;          // the state of LibTorch's default one, which dropout draws from
};

/// Of the default generator of a device: uint8, as at::Generator gives it.
at::Tensor generator_state(at::Device device);
/// Throws FileError where LibTorch does not take it.
void restore_generator(at::Device device, const at::Tensor& state);

/// One file, written atomically: parameters, Adam's moments, the best parameters, the generator's
/// state, the counters.
void write_checkpoint(const std::filesystem::path& path, const std::string& identity,
                      const std::vector<NamedTensor>& parameters, const Adam& optimizer,
                      const TrainingState& state);

/// Puts parameters and optimizer back. Throws FileError for a file that is missing, damaged or of
/// another identity.
TrainingState read_checkpoint(const std::filesystem::path& path, const std::string& identity,
                              const std::vector<NamedTensor>& parameters, Adam& optimizer);

}  // namespace lowrank::app
