#include <ATen/ATen.h>
#include <fmt/ranges.h>
#include <lowrank/adapter/inspect.h>
#include <lowrank/error.h>
#include <lowrank/io/json.h>
#include <lowrank/io/safetensors.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <numeric>

#include "adapter/config/name_matching.h"
#include "adapter/peft/adapter_config.h"
#include "adapter/peft/keys.h"

namespace lowrank {
namespace {

using Path = std::filesystem::path;

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

std::string shape_text(const at::Tensor& tensor) {
  return fmt::format("({})", fmt::join(tensor.sizes(), ", "));
}

/// Returns the scaling of each layer, with the patterns compiled once.
class Scalings {
 public:
  explicit Scalings(const LoraConfig& config)
      : config_(config),
        ranks_(config.rank_pattern, "rank_pattern"),
        alphas_(config.alpha_pattern, "alpha_pattern") {}

  double of(const std::string& path) {
    config_.rank = ranks_.value_for(path, rank_);
    config_.alpha = alphas_.value_for(path, alpha_);
    return config_.scaling();
  }

 private:
  LoraConfig config_;
  int64_t rank_ = config_.rank;
  double alpha_ = config_.alpha;
  FirstMatch<int64_t> ranks_;
  FirstMatch<double> alphas_;
};

InspectedLayer inspect_layer(const std::string& path, const at::Tensor& a, const at::Tensor& b,
                             double scaling) {
  const bool are_factors = a.dim() >= 2 && b.dim() >= 2 && a.size(0) == b.size(1) &&
                           b.numel() == b.size(0) * b.size(1);  // a convolution's end in 1 x 1
  if (!are_factors || !a.is_floating_point() || !b.is_floating_point()) {
    fail<FileError>(
        "info",
        fmt::format("the factors of \"{}\" must be floating-point matrices of one rank", path),
        fmt::format("A {} of shape {} and B {} of shape {}", c10::toString(a.scalar_type()),
                    shape_text(a), c10::toString(b.scalar_type()), shape_text(b)));
  }
  InspectedLayer layer;
  layer.name = path;
  layer.shape_a = a.sizes().vec();
  layer.shape_b = b.sizes().vec();
  layer.dtype = a.scalar_type();
  layer.scaling = scaling;
  const auto a64 = a.to(at::kDouble).flatten(1), b64 = b.to(at::kDouble).flatten(1);
  layer.norm_a = frobenius(a64);
  layer.norm_b = frobenius(b64);
  layer.norm_update = std::abs(scaling) * product_norm(b64, a64);
  return layer;
}

/// Returns the layers of a file. Each A must have a B.
std::vector<InspectedLayer> inspect_layers(const SafetensorsFile& file, const LoraConfig& config) {
  const auto names = names_by_key(file, /*adapter=*/"");
  Scalings scalings(config);
  std::vector<InspectedLayer> layers;
  for (const auto& name : file.names()) {
    const auto key = canonical_key(name, /*adapter=*/"");
    for (const auto& [suffix_a, suffix_b] :
         {std::pair(kKeyA, kKeyB), std::pair(kEmbeddingKeyA, kEmbeddingKeyB)}) {
      if (!key.ends_with(std::string(".") + suffix_a)) continue;
      const auto prefix = key.substr(0, key.size() - std::string_view(suffix_a).size());
      const auto b = names.find(prefix + suffix_b);
      const auto path = prefix.substr(0, prefix.size() - 1);
      layers.push_back(inspect_layer(path, file.tensor(name),
                                     file.tensor(b == names.end() ? prefix + suffix_b : b->second),
                                     scalings.of(path)));
    }
  }
  return layers;
}

/// The defaults of LoraConfig are for attaching. A file without these fields does not belong to an
/// adapter.
void require_number(const nlohmann::ordered_json& config, const char* field, const Path& file) {
  const auto it = config.find(field);
  if (it != config.end() && it->is_number()) return;
  fail<FileError>("info", fmt::format("\"{}\" must hold a number {}", file.string(), field),
                  it == config.end() ? "none" : it->dump());
}

}  // namespace

int64_t InspectedLayer::parameters() const {
  const auto count = [](const std::vector<int64_t>& shape) {
    return std::accumulate(shape.begin(), shape.end(), int64_t{1}, std::multiplies<>());
  };
  return count(shape_a) + count(shape_b);
}

InspectedAdapter inspect_adapter(const Path& folder) {
  const auto config_file = folder / kAdapterConfigFile;
  const auto json = read_ordered_json_file(config_file);
  if (!json.is_object()) {
    fail<FileError>("info", fmt::format("\"{}\" must hold a JSON object", config_file.string()),
                    json.type_name());
  }
  const auto file = SafetensorsFile::open(folder / kAdapterWeightsFile);
  for (const char* field : {"r", "lora_alpha"}) require_number(json, field, config_file);
  InspectedAdapter adapter;
  adapter.config = from_peft_json(json, config_file);
  try {
    adapter.layers = inspect_layers(file, adapter.config);
  } catch (const ArgumentError& error) {  // of a pattern
    throw FileError(fmt::format("{} (in \"{}\")", error.what(), config_file.string()));
  }
  for (const auto& name : file.names()) adapter.parameters += file.tensor(name).numel();
  const auto sum = file.metadata().find(kFingerprintKey);
  if (sum != file.metadata().end()) adapter.base_sha256 = sum->second;
  adapter.config_matches = config_matches(file, adapter.config);
  const auto base = json.find("base_model_name_or_path");
  if (base != json.end() && base->is_string()) adapter.base_model = base->get<std::string>();
  return adapter;
}

}  // namespace lowrank
