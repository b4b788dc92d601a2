#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <lowrank/weights/inspect_checkpoint.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "weights/blocks.h"

namespace lowrank {
namespace {

double norm_of(const at::Tensor& tensor) {
  const auto numbers = tensor.flatten();
  double sum = 0;
  for (int64_t begin = 0; begin < numbers.numel(); begin += kBlockNumbers) {
    const auto size = std::min(kBlockNumbers, numbers.numel() - begin);
    const auto part = numbers.narrow(0, begin, size).to(at::kDouble);
    sum += part.dot(part).item<double>();
  }
  return std::sqrt(sum);
}

}  // namespace

nlohmann::ordered_json to_json(const InspectedTensor& tensor) {
  nlohmann::ordered_json json = {{"name", tensor.name},
                                 {"dtype", c10::toString(tensor.stored.dtype)}};
  if (!tensor.stored.format.empty()) json["format"] = tensor.stored.format;
  json["shape"] = tensor.stored.shape;
  if (tensor.norm) json["norm"] = *tensor.norm;
  if (tensor.spectrum) json["spectrum"] = to_json(*tensor.spectrum);
  return json;
}

std::vector<InspectedTensor> inspect_checkpoint(
    const Checkpoint& checkpoint, const InspectOptions& options,
    const std::function<void(const std::string&, int64_t, int64_t)>& on_tensor) {
  const at::NoGradGuard no_grad;
  const auto& names = checkpoint.names();
  std::vector<InspectedTensor> inspected;
  for (size_t i = 0; i < names.size(); ++i) {
    if (on_tensor) on_tensor(names[i], static_cast<int64_t>(i), static_cast<int64_t>(names.size()));
    inspected.push_back({names[i], checkpoint.stored(names[i]), {}, {}});
    if (!options.norms && !options.spectra) continue;
    const auto tensor = checkpoint.tensor(names[i]);
    const bool is_weight = tensor.dim() >= 2 && tensor.is_floating_point();
    auto& found = inspected.back();
    if (options.spectra && is_weight) found.spectrum = spectrum(tensor.flatten(1), names[i]);
    found.norm = norm_of(tensor);
  }
  return inspected;
}

}  // namespace lowrank
