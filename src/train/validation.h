#pragma once

#include <lowrank/train/trainer.h>

#include "train/training_state_file.h"

namespace lowrank {

/// Puts the model into train() or eval() until the end of the scope, and then into the other one.
class ModeScope {
 public:
  ModeScope(const TrainTask& task, bool training);
  ~ModeScope();
  ModeScope(const ModeScope&) = delete;
  ModeScope& operator=(const ModeScope&) = delete;

 private:
  const TrainTask& task_;
  bool training_;
};

/// Returns the number that a loss holds. Throws TensorError unless it is one.
double value_of(const at::Tensor& loss);
/// "NaN" or "Inf".
const char* not_finite(double value);

/// The validations of one run, and the best parameters so far. loss() and add() are called in
/// eval() and without gradients. What the constructor is given must outlive this.
class Validation {
 public:
  /// `held_back` is int64 (N), or undefined if nothing is validated.
  Validation(const TrainTask& task, const TrainOptions& options, const at::Tensor& held_back);

  bool is_on() const { return held_back_.defined(); }
  /// Returns whether to validate after `step`: where the options say, or at the end of each epoch,
  /// or ten times in the whole run if that is more often.
  bool is_due(int64_t step, int64_t steps_per_epoch, int64_t total) const;
  /// Returns the mean loss of the examples that are held back.
  double loss() const;
  /// Adds a validation to the history, with the task's metrics, and keeps the parameters if its
  /// loss is the lowest so far. Returns whether it is.
  bool add(TrainingState& state, double loss) const;
  /// Returns whether the last TrainOptions::patience validations have not lowered the loss.
  bool patience_ends(const TrainingState& state) const;
  /// Gives the parameters their best values, if there are any.
  void restore_best(const TrainingState& state) const;

 private:
  const TrainTask& task_;
  const TrainOptions& options_;
  at::Tensor held_back_;
};

}  // namespace lowrank
