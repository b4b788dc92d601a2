#pragma once

#include <lowrank/train/schedule.h>

#include <cstdint>
#include <nlohmann/json_fwd.hpp>

namespace lowrank::app {

/// How a model is trained.
struct TrainOptions {
  /// Passes over the training examples; not looked at where `steps` is given.
  int64_t epochs = 1;
  /// Optimizer steps; 0: as many as the epochs have.
  int64_t steps = 0;
  /// Examples a batch, at least 1.
  int64_t batch_size = 10;
  /// Peak learning rate of Adam, above 0.
  double learning_rate = 1e-3;
  Schedule schedule = {};
  /// Gradients are scaled down to this 2-norm over all parameters; 0 disables.
  double clip_norm = 0;
  /// Batches whose gradients are averaged into one step, 1 to 1000000.
  int64_t accumulate = 1;
  /// Share of the examples held back; the parameters with the lowest loss on them are kept.
  /// In [0, 1); 0 disables.
  double validation = 0;
  /// Share of each batch taken from the other examples, in [0, 1); 0 disables.
  double replay = 0;
  /// Of the order of the examples.
  uint64_t seed = 0;
};

/// Throws ArgumentError that names the first option out of its range.
void check(const TrainOptions& options);

/// All options, by their names; the same options give the same text.
nlohmann::ordered_json to_json(const TrainOptions& options);

}  // namespace lowrank::app
