#include "adapter/peft/folder.h"

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <lowrank/error.h>
#include <lowrank/io/json.h>

#include <set>
#include <utility>

#include "adapter/config/name_matching.h"
#include "adapter/peft/adapter_config.h"
#include "adapter/peft/keys.h"
#include "io/shape_text.h"

namespace lowrank {
namespace {

using Path = std::filesystem::path;

/// Returns the scaling of each layer, with the patterns compiled once.
class Scalings {
 public:
  explicit Scalings(const LoraConfig& config)
      : config_(config),
        ranks_(config.rank_pattern, "rank_pattern"),
        alphas_(config.alpha_pattern, "alpha_pattern") {}

  /// Sets the rank that the config states for the layer, and its scaling.
  void set(FolderLayer& layer) {
    config_.rank = layer.stated_rank = ranks_.value_for(layer.path, rank_);
    config_.alpha = alphas_.value_for(layer.path, alpha_);
    layer.scaling = config_.scaling();
  }

 private:
  LoraConfig config_;
  int64_t rank_ = config_.rank;
  double alpha_ = config_.alpha;
  FirstMatch<int64_t> ranks_;
  FirstMatch<double> alphas_;
};

void require_factors(const FolderLayer& layer, const char* operation) {
  const auto &a = layer.a, &b = layer.b;
  const bool are_factors = a.dim() >= 2 && b.dim() >= 2 && a.size(0) == b.size(1) &&
                           b.numel() == b.size(0) * b.size(1);  // a convolution's end in 1 x 1
  if (are_factors && a.is_floating_point() && b.is_floating_point()) return;
  fail<FileError>(
      operation,
      fmt::format("the factors of \"{}\" must be floating-point matrices of one rank", layer.path),
      fmt::format("A {} of shape {} and B {} of shape {}", c10::toString(a.scalar_type()),
                  shape_text(a.sizes()), c10::toString(b.scalar_type()), shape_text(b.sizes())));
}

/// Finds the layers of the file. Each A must have a B.
void read_layers(AdapterFolder& adapter, const char* operation) {
  const auto& file = adapter.file;
  const auto names = names_by_key(file, /*adapter=*/"");
  Scalings scalings(adapter.config);
  std::set<std::string> factors;
  for (const auto& name : file.names()) {
    const auto key = canonical_key(name, /*adapter=*/"");
    for (const auto& [suffix_a, suffix_b] :
         {std::pair(kKeyA, kKeyB), std::pair(kEmbeddingKeyA, kEmbeddingKeyB)}) {
      if (!key.ends_with(std::string(".") + suffix_a)) continue;
      const auto prefix = key.substr(0, key.size() - std::string_view(suffix_a).size());
      const auto b = names.find(prefix + suffix_b);
      FolderLayer layer;
      layer.path = prefix.substr(0, prefix.size() - 1);
      layer.name_a = name;
      layer.name_b = b == names.end() ? prefix + suffix_b : b->second;
      layer.a = file.tensor(layer.name_a);
      layer.b = file.tensor(layer.name_b);
      scalings.set(layer);
      layer.is_embedding = suffix_a == kEmbeddingKeyA;
      require_factors(layer, operation);
      factors.insert({layer.name_a, layer.name_b});
      adapter.layers.push_back(layer);
    }
  }
  for (const auto& name : file.names()) {
    if (!factors.contains(name)) adapter.others.push_back(name);
  }
}

/// The defaults of LoraConfig are for attaching. A file without these fields does not belong to an
/// adapter.
void require_number(const nlohmann::ordered_json& config, const char* field, const Path& file,
                    const char* operation) {
  const auto it = config.find(field);
  if (it != config.end() && it->is_number()) return;
  fail<FileError>(operation, fmt::format("\"{}\" must hold a number {}", file.string(), field),
                  it == config.end() ? "none" : it->dump());
}

}  // namespace

void require_no_adapter(const Path& folder, const char* operation, const char* hint) {
  for (const char* name : {kAdapterConfigFile, kAdapterWeightsFile}) {
    if (!std::filesystem::exists(folder / name)) continue;
    fail<FileError>(operation, fmt::format("\"{}\" must not hold an adapter yet", folder.string()),
                    fmt::format("an {}", name), hint);
  }
}

AdapterFolder read_adapter_folder(const Path& folder, const char* operation) {
  const auto config_file = folder / kAdapterConfigFile;
  auto json = read_ordered_json_file(config_file);
  if (!json.is_object()) {
    fail<FileError>(operation, fmt::format("\"{}\" must hold a JSON object", config_file.string()),
                    json.type_name());
  }
  auto file = SafetensorsFile::open(folder / kAdapterWeightsFile);
  for (const char* field : {"r", "lora_alpha"}) require_number(json, field, config_file, operation);
  AdapterFolder adapter{json, from_peft_json(json, config_file), std::move(file), {}, {}};
  try {
    read_layers(adapter, operation);
  } catch (const ArgumentError& error) {  // of a pattern
    throw FileError(fmt::format("{} (in \"{}\")", error.what(), config_file.string()));
  }
  return adapter;
}

}  // namespace lowrank
