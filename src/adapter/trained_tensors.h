#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "adapter/state.h"

namespace lowrank {

/// The role of a trained tensor in its adapter.
enum class TensorRole : uint8_t { kA, kB, kBias, kMagnitude, kWhole };

struct TrainedTensor {
  TensorRole role;
  at::Tensor tensor;
  const LayerFactors* layer = nullptr;    ///< null for kWhole
  const WholeParameter* whole = nullptr;  ///< null for all others
};

/// Returns all tensors that an adapter trains: A, B and, if there are any, the bias and the
/// magnitude, layer by layer, then the parameters that are trained in full. The result points into
/// `adapter`.
std::vector<TrainedTensor> trained_tensors(const NamedAdapter& adapter);

}  // namespace lowrank
