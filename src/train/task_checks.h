#pragma once

#include <lowrank/train/sampler.h>
#include <lowrank/train/train_options.h>
#include <lowrank/train/train_task.h>

namespace lowrank {

/// Throws ArgumentError for a task that lacks something which it needs with these options.
void require_task(const TrainTask& task, const TrainOptions& options, bool resume);

/// Returns which examples are trained on and which are held back; either is undefined if there are
/// none (`train` for a stream). Throws ArgumentError for indices that the task does not have.
ValidationSplit split_examples(const TrainTask& task, const TrainOptions& options);

}  // namespace lowrank
