#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <lowrank/adapter/inspect.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <numeric>

#include "adapter/peft/adapter_config.h"
#include "adapter/peft/folder.h"
#include "adapter/peft/keys.h"
#include "linalg/matrix.h"
#include "linalg/product_svd.h"

namespace lowrank {
namespace {

double frobenius(const at::Tensor& tensor) { return tensor.norm().item<double>(); }

/// ‖B·A‖ from the r × r products BᵀB and AAᵀ: ‖BA‖² = tr(BᵀB · AAᵀ). If B·A itself is less work,
/// as in a file that claims a large rank, it is formed; either way takes no more numbers than A and
/// B have.
double product_norm(const at::Tensor& b, const at::Tensor& a) {
  const auto out = static_cast<double>(b.size(0)), in = static_cast<double>(a.size(1));
  if (static_cast<double>(a.size(0)) * (in + out) > in * out) return frobenius(b.mm(a));
  const double squared = b.t().mm(b).mul(a.mm(a.t()).t()).sum().item<double>();
  return std::sqrt(std::max(squared, 0.0));
}

InspectedLayer inspect_layer(const FolderLayer& found) {
  InspectedLayer layer;
  layer.name = found.path;
  layer.shape_a = found.a.sizes().vec();
  layer.shape_b = found.b.sizes().vec();
  layer.dtype = found.a.scalar_type();
  layer.scaling = found.scaling;
  const auto a = found.a.to(at::kDouble).flatten(1), b = found.b.to(at::kDouble).flatten(1);
  layer.norm_a = frobenius(a);
  layer.norm_b = frobenius(b);
  layer.norm_update = std::abs(found.scaling) * product_norm(b, a);
  return layer;
}

}  // namespace

int64_t InspectedLayer::parameters() const {
  const auto count = [](const std::vector<int64_t>& shape) {
    return std::accumulate(shape.begin(), shape.end(), int64_t{1}, std::multiplies<>());
  };
  return count(shape_a) + count(shape_b);
}

InspectedAdapter inspect_adapter(const std::filesystem::path& folder) {
  const auto found = read_adapter_folder(folder, "info");
  InspectedAdapter adapter;
  adapter.config = found.config;
  for (const auto& layer : found.layers) adapter.layers.push_back(inspect_layer(layer));
  for (const auto& name : found.file.names()) adapter.parameters += found.file.tensor(name).numel();
  const auto sum = found.file.metadata().find(kFingerprintKey);
  if (sum != found.file.metadata().end()) adapter.base_sha256 = sum->second;
  adapter.config_matches = config_matches(found.file, found.config);
  const auto base = found.json.find("base_model_name_or_path");
  if (base != found.json.end() && base->is_string()) adapter.base_model = base->get<std::string>();
  return adapter;
}

std::vector<Spectrum> adapter_spectra(const std::filesystem::path& folder) {
  const at::NoGradGuard no_grad;
  std::vector<Spectrum> spectra;
  for (const auto& layer : read_adapter_folder(folder, "info").layers) {
    const auto matrix = [](const std::string& name, const at::Tensor& factor) {
      return finite_matrix("info", name, factor.flatten(1));
    };
    const auto a = matrix(layer.name_a, layer.a), b = matrix(layer.name_b, layer.b);
    const auto dtype = b.scalar_type();
    const auto values = product_svd(b.to(at::kDouble) * layer.scaling, a.to(at::kDouble)).s;
    spectra.push_back(spectrum_of(values, b.size(0), a.size(1), spacing_of(dtype)));
  }
  return spectra;
}

}  // namespace lowrank
