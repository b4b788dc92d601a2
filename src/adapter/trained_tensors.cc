#include "adapter/trained_tensors.h"

namespace lowrank {

std::vector<TrainedTensor> trained_tensors(const NamedAdapter& adapter) {
  std::vector<TrainedTensor> tensors;
  for (const auto& layer : adapter.layers) {
    const auto add = [&](TensorRole role, const at::Tensor& tensor) {
      if (tensor.defined()) tensors.push_back({.role = role, .tensor = tensor, .layer = &layer});
    };
    add(TensorRole::kA, layer.a);
    add(TensorRole::kB, layer.b);
    add(TensorRole::kBias, layer.bias);
    add(TensorRole::kMagnitude, layer.magnitude);
  }
  for (const auto& whole : adapter.whole) {
    if (whole.is_statistic) continue;
    tensors.push_back({.role = TensorRole::kWhole, .tensor = whole.value, .whole = &whole});
  }
  return tensors;
}

}  // namespace lowrank
