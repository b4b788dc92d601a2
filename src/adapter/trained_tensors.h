#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "adapter/state.h"

namespace lowrank {

/// What a trained tensor is to its adapter.
enum class TensorRole : uint8_t { kA, kB, kBias, kMagnitude, kWhole };

struct TrainedTensor {
  TensorRole role;
  at::Tensor tensor;
  const LayerFactors* layer = nullptr;    ///< null for kWhole
  const WholeParameter* whole = nullptr;  ///< null for all others
};

/// All tensors that an adapter trains: layer by layer A, B, the bias and the magnitude where there
/// are any, then what is trained whole. They refer to `adapter`.
std::vector<TrainedTensor> trained_tensors(const NamedAdapter& adapter);

}  // namespace lowrank
