#pragma once

#include <ATen/core/dispatch/Dispatcher.h>

namespace lowrank::effective {

/// Handles operators that may write into running statistics with a site: batch_norm, instance_norm
/// and the like, whose schemas do not show that they write, and add_, which counts batches.
///
/// If an adapter that is on keeps statistics of its own, they are read and written in place of the
/// base's. Otherwise those of the base are written only if they are not frozen. For add_ this does
/// the work and returns true; for all others it replaces the arguments and returns false.
bool try_statistics(const c10::OperatorHandle& op, torch::jit::Stack* stack);

}  // namespace lowrank::effective
