#pragma once

#include <lowrank/train/trainer.h>

#include <chrono>
#include <string>

#include "train/optimizer_driver.h"
#include "train/processes/gradient_exchange.h"
#include "train/training_state_file.h"

namespace lowrank {

/// The checkpoints of one run: when its state is written, how it is read again, and what becomes of
/// it if the run diverges. What the constructor is given must outlive this.
class RunCheckpoints {
 public:
  /// `shared` is null for a process alone.
  RunCheckpoints(const RunOptions& run, const TrainTask& task, Stepper& stepper,
                 SharedSteps* shared);

  /// Restores the parameters and the optimizer, and returns the rest of the state. In a group, only
  /// rank 0 needs to have the file. Throws FileError as read_checkpoint() does.
  TrainingState read();
  /// Writes the state, unless the run keeps none. Throws TensorError for parameters that are not
  /// finite, which are never written.
  void save(TrainingState& state);
  void save_if_due(TrainingState& state);
  /// Says, for messages, where the state is and how to go on.
  std::string where() const;

  /// Throws TensorError if a parameter is not finite after `step` steps.
  void require_finite(int64_t step) const;
  /// Throws TensorError for what is not finite.
  [[noreturn]] void fail_diverged(const std::string& what, const std::string& found) const;

 private:
  bool is_first() const { return shared_ == nullptr || shared_->is_first(); }

  const RunOptions& run_;
  const TrainTask& task_;
  Stepper& stepper_;
  SharedSteps* shared_;
  std::chrono::steady_clock::time_point next_;
};

}  // namespace lowrank
