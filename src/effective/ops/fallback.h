#pragma once

#include <ATen/core/dispatch/Dispatcher.h>

namespace lowrank::effective {

/// Handles marked tensors for every operator without a function of its own, according to the
/// operator's schema. Views and writes take the marked tensor itself: a view keeps the mark, a
/// write changes W. A copy of a whole weight gets the mark and the same factors. Any other operator
/// gets the tensor's effective_value().
void fallback(const c10::OperatorHandle& op, c10::DispatchKeySet keys, torch::jit::Stack* stack);

}  // namespace lowrank::effective
