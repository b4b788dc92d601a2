#include <fmt/ranges.h>
#include <lowrank/adapter/adapter.h>
#include <lowrank/io/sha256.h>
#include <torch/nn/module.h>

#include <algorithm>

#include "adapter/state.h"
#include "adapter/targets/model_view.h"
#include "effective/weight_reading.h"

namespace lowrank {
namespace {

using Lines = std::vector<std::string>;

std::string line_of(const std::string& name, const at::Tensor& tensor) {
  return fmt::format("{} {} {} {}\n", name, c10::toString(tensor.scalar_type()),
                     fmt::join(tensor.sizes(), " "), sha256_hex(effective::stored_weight(tensor)));
}

std::string hash_of(Lines lines) {
  std::sort(lines.begin(), lines.end());
  Sha256 sum;
  for (const auto& line : lines) sum.update(line.data(), line.size());
  return sum.hex();
}

}  // namespace

Fingerprints fingerprints_of(const Adapter::State& state) {
  Lines lines;
  for (const auto& parameter : state.base) {
    lines.push_back(line_of(parameter.name, parameter.tensor));
  }
  const auto of_parameters = hash_of(lines);
  const auto changed = changed_buffers(state);
  for (const auto& buffer : state.buffers) {
    const bool is_changed = std::find(changed.begin(), changed.end(), buffer.name) != changed.end();
    lines.push_back(line_of(buffer.name, is_changed ? buffer.before : buffer.tensor));
  }
  return {.whole = hash_of(std::move(lines)), .of_parameters = of_parameters};
}

std::string base_fingerprint(const torch::nn::Module& model) {
  Lines lines;
  for (const auto& item : model.named_parameters()) {
    lines.push_back(line_of(item.key(), item.value()));
  }
  for (const auto& item : model.named_buffers()) {
    if (item.value().defined()) lines.push_back(line_of(item.key(), item.value()));
  }
  return hash_of(std::move(lines));
}

std::string base_fingerprint(const torch::jit::Module& model) {
  Lines lines;
  for (const auto& layer : layers_of(model)) {
    for (const auto& [name, tensor] : layer.parameters) {
      lines.push_back(line_of(dotted_path(layer.name, name), tensor));
    }
    for (const auto& [name, tensor] : layer.buffers) {
      if (tensor.defined()) lines.push_back(line_of(dotted_path(layer.name, name), tensor));
    }
  }
  return hash_of(std::move(lines));
}

}  // namespace lowrank
