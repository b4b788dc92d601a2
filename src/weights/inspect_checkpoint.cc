#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <lowrank/weights/inspect_checkpoint.h>

#include <nlohmann/json.hpp>

#include "linalg/norm_in_float64.h"

namespace lowrank {
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
    found.norm = norm_in_float64(tensor);
  }
  return inspected;
}

}  // namespace lowrank
