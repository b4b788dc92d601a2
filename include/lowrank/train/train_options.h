#pragma once

#include <lowrank/export.h>
#include <lowrank/train/schedule.h>

#include <cstdint>
#include <nlohmann/json_fwd.hpp>

namespace lowrank {

/// How a model is trained.
struct TrainOptions {
  /// Passes over the training examples; ignored if `steps` is given.
  int64_t epochs = 1;
  /// Optimizer steps; 0 means as many as the epochs have.
  int64_t steps = 0;
  /// The run ends after the step in which this many seconds have passed, those before a resume
  /// included; 0 means no limit. Where the run ends then depends on the machine.
  double seconds = 0;
  /// Examples per batch, at least 1.
  int64_t batch_size = 10;
  /// Peak learning rate of Adam, above 0.
  double learning_rate = 1e-3;
  /// Decoupled weight decay (AdamW), at least 0.
  double weight_decay = 0;
  Schedule schedule = {};
  /// Gradients are scaled down to this 2-norm over all parameters; 0 disables clipping.
  double clip_norm = 0;
  /// Batches whose gradients are averaged for one step, 1 to 1000000.
  int64_t accumulate = 1;
  /// Share of the examples that are held back, in [0, 1); 0 disables validation, unless the task
  /// holds examples back itself. The parameters with the lowest loss on these examples are kept.
  double validation = 0;
  /// Steps between validations; 0 means an epoch, or a tenth of the run if that is less.
  int64_t validate_every = 0;
  /// Examples per batch of a validation; 0 means batch_size.
  int64_t validation_batch_size = 0;
  /// The run ends when this many validations in a row have not lowered the loss; 0 means never.
  int64_t patience = 0;
  /// Share of each batch that is taken from the task's other examples, in [0, 1); 0 disables
  /// replay.
  double replay = 0;
  /// Seed of the order of the examples.
  uint64_t seed = 0;
};

/// Throws ArgumentError that names the first option that is out of range.
LOWRANK_API void check(const TrainOptions& options);

/// Returns all options by name; the same options give the same text.
LOWRANK_API nlohmann::ordered_json to_json(const TrainOptions& options);

}  // namespace lowrank
