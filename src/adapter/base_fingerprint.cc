#include <lowrank/adapter/adapter.h>
#include <torch/nn/module.h>

#include <algorithm>

#include "adapter/state.h"
#include "adapter/targets/model_view.h"
#include "checkpoint/fingerprint.h"
#include "effective/weight_reading.h"

namespace lowrank {
namespace {

/// Adds a tensor as it is stored, without what an adapter makes of it.
void add(Fingerprint& fingerprint, const std::string& name, const at::Tensor& tensor) {
  fingerprint.add(name, effective::stored_weight(tensor));
}

}  // namespace
Fingerprints fingerprints_of(const Adapter::State& state) {
  Fingerprint fingerprint;
  for (const auto& parameter : state.base) add(fingerprint, parameter.name, parameter.tensor);
  const auto of_parameters = fingerprint.hex();
  const auto changed = changed_buffers(state);
  for (const auto& buffer : state.buffers) {
    const bool is_changed = std::find(changed.begin(), changed.end(), buffer.name) != changed.end();
    add(fingerprint, buffer.name, is_changed ? buffer.before : buffer.tensor);
  }
  return {.whole = fingerprint.hex(), .of_parameters = of_parameters};
}

std::string base_fingerprint(const torch::nn::Module& model) {
  Fingerprint fingerprint;
  for (const auto& item : model.named_parameters()) add(fingerprint, item.key(), item.value());
  for (const auto& item : model.named_buffers()) {
    if (item.value().defined()) add(fingerprint, item.key(), item.value());
  }
  return fingerprint.hex();
}

std::string base_fingerprint(const torch::jit::Module& model) {
  Fingerprint fingerprint;
  for (const auto& layer : layers_of(model)) {
    for (const auto& [name, tensor] : layer.parameters) {
      add(fingerprint, dotted_path(layer.name, name), tensor);
    }
    for (const auto& [name, tensor] : layer.buffers) {
      if (tensor.defined()) add(fingerprint, dotted_path(layer.name, name), tensor);
    }
  }
  return fingerprint.hex();
}

}  // namespace lowrank
