#include "weights/adapter_updates.h"

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <lowrank/error.h>

#include <algorithm>
#include <string_view>
#include <utility>

#include "adapter/peft/keys.h"
#include "io/shape_text.h"
#include "linalg/matrix.h"
#include "weights/plain_adapter.h"

namespace lowrank {
namespace {

using Path = std::filesystem::path;

void erase_segment(std::string& name, std::string_view segment) {
  for (size_t at = name.find(segment); at != std::string::npos; at = name.find(segment)) {
    name.erase(at, segment.size());
  }
}

/// The name in the model of a tensor that PEFT saves whole: without its wrappers. Empty for the
/// copy of the base's own that some files have.
std::string name_in_model(const std::string& name) {
  auto key = canonical_key(name, /*adapter=*/"");
  if (key.find("original_module.") != std::string::npos) return {};
  erase_segment(key, "base_layer.");
  erase_segment(key, "modules_to_save.default.");
  erase_segment(key, "modules_to_save.");
  return key;
}

/// A weight is stored as (out, in...), or transposed, as a Conv1D's (in, out) and an embedding's
/// (number, out).
bool stores_transposed(const FolderLayer& layer, const std::vector<int64_t>& shape,
                       bool fan_in_fan_out, const char* operation) {
  const auto out = layer.b.size(0), in = layer.a.numel() / layer.a.size(0);
  const bool fits =
      shape.size() >= 2 && shape[0] == out && c10::multiply_integers(shape) == out * in;
  const bool fits_transposed = shape.size() == 2 && shape[0] == in && shape[1] == out;
  const bool wants = layer.is_embedding || fan_in_fan_out;
  if (wants ? fits_transposed : fits) return wants;
  if (!layer.is_embedding && (fits || fits_transposed)) return fits_transposed;
  fail<FileError>(operation,
                  fmt::format("the weight of \"{}\" must fit its factors, which make {}",
                              layer.path, shape_text({out, in})),
                  shape_text(shape), "Was the adapter made for another model?");
}

[[noreturn]] void refuse_update(const char* operation, const Path& folder, const std::string& found,
                                const std::string& hint = {}) {
  fail<FileError>(
      operation,
      fmt::format("\"{}\" must be an adapter that changes weights of a file by s·B·A, or "
                  "replaces tensors",
                  folder.string()),
      found, hint);
}

}  // namespace

Updates Updates::read(const UntiedBase& base, const Path& folder, const std::string& prefix,
                      const char* operation) {
  const auto adapter = read_plain_adapter(folder, operation, /*with_dora=*/true);
  const auto stored_transposed = adapter.json.find("fan_in_fan_out");
  const bool fan_in_fan_out = stored_transposed != adapter.json.end() && *stored_transposed == true;
  const auto in_base = [&](const std::string& name) {
    if (base.contains(prefix + name)) return prefix + name;
    fail<FileError>(operation,
                    fmt::format("\"{}\" must hold \"{}\", which the adapter changes",
                                base.checkpoint().place().string(), prefix + name),
                    "no such tensor", did_you_mean(prefix + name, base.checkpoint().names()));
  };
  Updates updates;
  updates.note_ = note_of_biases(adapter, folder);
  const auto& metadata = adapter.file.metadata();
  const auto expected = metadata.find(kFingerprintKey);
  if (expected != metadata.end()) updates.base_sha256_ = expected->second;
  std::map<std::string, double> scalings;
  for (const auto& layer : adapter.layers) {
    const auto name = in_base(layer.path + ".weight");
    require_unscaled(base.checkpoint(), name, operation);
    if (!at::isFloatingType(base.stored(name).dtype)) {
      fail<FileError>(operation,
                      fmt::format("\"{}\", which the adapter changes by s·B·A, must hold "
                                  "floating-point numbers",
                                  name),
                      base.stored(name).format);
    }
    scalings[layer.path + "."] = layer.scaling;
    const bool transposed =
        stores_transposed(layer, base.stored(name).shape, fan_in_fan_out, operation);
    const auto a = finite_matrix(operation, layer.name_a, layer.a.flatten(1)).to(at::kDouble);
    const auto b =
        finite_matrix(operation, layer.name_b, layer.b.flatten(1)).to(at::kDouble) * layer.scaling;
    updates.products_[name] =
        transposed ? Product{a.t().contiguous(), b.t().contiguous(), true} : Product{b, a};
  }
  for (const auto& name : adapter.others) {
    const auto tensor = adapter.file.tensor(name);
    auto key = name_in_model(name);
    if (key.empty()) continue;
    if (key.ends_with(".lora_B.bias")) {
      key.erase(key.size() - std::string_view("lora_B.bias").size());
      updates.biases_[in_base(key + "bias")] = tensor.to(at::kDouble) * scalings[key];
      continue;
    }
    if (key.ends_with(kMagnitudeKey)) {
      updates.set_magnitude(key.substr(0, key.rfind('.')) + ".weight", tensor, prefix, folder,
                            operation);
      continue;
    }
    if (key.find("lora_") != std::string::npos || key.find("token_adapter") != std::string::npos) {
      refuse_update(operation, folder, fmt::format("\"{}\"", name));
    }
    const auto own = in_base(key);
    const auto shape = base.stored(own).shape;
    if (tensor.sizes() != at::IntArrayRef(shape)) {
      fail<FileError>(operation,
                      fmt::format("\"{}\" must have the base's shape {}", name, shape_text(shape)),
                      shape_text(tensor.sizes()));
    }
    // PEFT also saves the tables that an adapter changes as they were.
    const bool is_adapted = updates.products_.contains(own);
    if (!is_adapted || !at::equal(tensor, base.tensor(own))) updates.whole_[own] = tensor;
  }
  if (adapter.config.use_dora) updates.require_magnitudes(folder, operation);
  return updates;
}

void Updates::set_magnitude(const std::string& weight, const at::Tensor& magnitude,
                            const std::string& prefix, const Path& folder, const char* operation) {
  const auto found = products_.find(prefix + weight);
  const auto fits = [&] {
    const auto& product = found->second;
    return magnitude.numel() ==
           (product.is_transposed ? product.right.size(1) : product.left.size(0));
  };
  if (found == products_.end() || !fits()) {
    fail<FileError>(
        operation,
        fmt::format("each magnitude in \"{}\" must have one number for each output of a layer "
                    "with factors",
                    folder.string()),
        fmt::format("{} for \"{}\"", shape_text(magnitude.sizes()), weight));
  }
  if (!magnitude.isfinite().all().item<bool>()) {
    fail<FileError>(operation,
                    fmt::format("the magnitudes in \"{}\" must be finite", folder.string()),
                    fmt::format("NaN or Inf for \"{}\"", weight));
  }
  found->second.magnitude = magnitude.to(at::kDouble).flatten();
}

void Updates::require_magnitudes(const Path& folder, const char* operation) const {
  for (const auto& [name, product] : products_) {
    if (product.magnitude.defined()) continue;
    fail<FileError>(operation,
                    fmt::format("\"{}\", which uses DoRA, must hold a magnitude for each layer",
                                folder.string()),
                    fmt::format("none for \"{}\"", name));
  }
}

bool Updates::has_dora() const {
  return std::any_of(products_.begin(), products_.end(),
                     [](const auto& item) { return item.second.magnitude.defined(); });
}

bool Updates::needs_all_rows(const std::string& name) const {
  const auto found = products_.find(name);
  return found != products_.end() && found->second.is_transposed &&
         found->second.magnitude.defined();
}

bool Updates::changes(const std::string& name) const {
  return products_.contains(name) || whole_.contains(name) || biases_.contains(name);
}

void Updates::add_to(const std::string& name, at::Tensor& rows, int64_t begin, double sign) const {
  if (const auto product = products_.find(name); product != products_.end()) {
    const auto& [all_left, right, is_transposed, magnitude] = product->second;
    const auto left = all_left.narrow(0, begin, rows.size(0));
    rows.addmm_(left, right, /*beta=*/1, /*alpha=*/sign);
    if (magnitude.defined()) {
      const auto norms = at::linalg_vector_norm(rows, 2, is_transposed ? 0 : 1);
      if (!norms.isfinite().logical_and(norms.gt(0)).all().item<bool>()) {
        fail<TensorError>("merge",
                          fmt::format("W + s·B·A of \"{}\" must have finite norms above 0, by "
                                      "which DoRA divides",
                                      name),
                          "another");
      }
      const auto own = is_transposed ? magnitude : magnitude.narrow(0, begin, rows.size(0));
      rows.mul_((own / norms).unsqueeze(is_transposed ? 0 : 1));
    }
  }
  if (const auto bias = biases_.find(name); bias != biases_.end()) {
    rows.add_(bias->second.narrow(0, begin, rows.size(0)).view({-1, 1}), sign);
  }
}

std::vector<std::string> Updates::names() const {
  std::vector<std::string> names;
  for (const auto& [name, product] : products_) names.push_back(name);
  for (const auto& [name, tensor] : whole_) names.push_back(name);
  for (const auto& [name, tensor] : biases_) names.push_back(name);
  return names;
}

}  // namespace lowrank
