#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <fmt/format.h>
#include <lowrank/error.h>
#include <lowrank/io/atomic_file.h>
#include <lowrank/io/json.h>
#include <lowrank/io/safetensors.h>
#include <lowrank/weights/combine_folders.h>

#include <algorithm>
#include <map>

#include "adapter/combine/combine_factors.h"
#include "adapter/peft/adapter_config.h"
#include "adapter/peft/folder.h"
#include "adapter/peft/keys.h"
#include "linalg/matrix.h"
#include "linalg/norm_in_float64.h"
#include "linalg/product_svd.h"
#include "weights/new_layers.h"
#include "weights/plain_adapter.h"

namespace lowrank {
namespace {

using Path = std::filesystem::path;

/// The parts of one layer, in the order of the adapters that adapt it.
struct Parts {
  FolderLayer first;  // names the tensors
  std::vector<ScaledFactors> factors;
  std::vector<double> weights;
};

AdapterFolder read_factors_alone(const Path& folder) {
  auto adapter = read_plain_adapter(folder, "combine");
  if (!adapter.others.empty()) {
    fail<FileError>("combine",
                    fmt::format("\"{}\" must be an adapter of factors alone", folder.string()),
                    list_names(adapter.others), "extract --whole skip leaves such tensors out.");
  }
  return adapter;
}

std::string base_of(const AdapterFolder& adapter) {
  const auto found = adapter.file.metadata().find(kFingerprintKey);
  return found == adapter.file.metadata().end() ? std::string() : found->second;
}

/// Returns the fingerprint of the base; empty if no file names it.
std::string only_base(const std::vector<AdapterFolder>& adapters,
                      const std::vector<Path>& folders) {
  std::string base;
  size_t named = 0;
  for (size_t i = 0; i < adapters.size(); ++i) {
    const auto own = base_of(adapters[i]);
    if (own.empty() || own == base) continue;
    if (!base.empty()) {
      fail<FileError>("combine", "the adapters must be for one base",
                      fmt::format("SHA-256 {:.12} in \"{}\" and {:.12} in \"{}\"", base,
                                  folders[named].string(), own, folders[i].string()));
    }
    base = own;
    named = i;
  }
  return base;
}

/// Returns the parts of every layer, in the order in which the adapters have them.
std::vector<Parts> parts_of(const std::vector<AdapterFolder>& adapters,
                            const std::vector<double>& weights) {
  std::vector<Parts> all;
  std::map<std::string, size_t> place_of;
  for (size_t i = 0; i < adapters.size(); ++i) {
    for (const auto& layer : adapters[i].layers) {
      const auto [place, is_new] = place_of.emplace(layer.path, all.size());
      if (is_new) all.push_back({layer, {}, {}});
      auto& parts = all[place->second];
      parts.factors.push_back({layer.a, layer.b, layer.scaling});
      parts.weights.push_back(weights[i]);
    }
  }
  return all;
}

at::Tensor as_matrix(const at::Tensor& factor) { return factor.flatten(1).to(at::kDouble); }

/// Measures how far the result is from the weighted sum. Neither is formed: their difference is a
/// product of stacked factors.
LayerError error_of(const Parts& parts, const ScaledFactors& result) {
  std::vector<at::Tensor> b, a;
  for (size_t i = 0; i < parts.factors.size(); ++i) {
    const auto& part = parts.factors[i];
    b.push_back(as_matrix(part.b) * (part.scaling * parts.weights[i]));
    a.push_back(as_matrix(part.a));
  }
  LayerError error;
  error.name = parts.first.path;
  error.rows = b[0].size(0);
  error.columns = a[0].size(1);
  error.rank = result.a.size(0);
  error.norm = norm_in_float64(product_svd(at::cat(b, 1), at::cat(a, 0)).s);
  b.push_back(as_matrix(result.b) * -result.scaling);
  a.push_back(as_matrix(result.a));
  const auto rest = product_svd(at::cat(b, 1), at::cat(a, 0)).s;
  error.frobenius = norm_in_float64(rest);
  error.spectral = rest.numel() == 0 ? 0 : rest.max().item<double>();
  require_measured("combine", error);
  return error;
}

LoraConfig config_of(const AdapterFolder& first, const std::vector<NewLayer>& layers) {
  auto config = first.config;
  config.use_rslora = false;
  config.target_modules = ModuleSelector();
  config.exclude_modules = ModuleSelector();
  config.layers_to_transform.clear();
  config.layers_pattern.clear();
  for (const auto& layer : layers) config.target_modules.names.push_back(layer.path);
  set_ranks(config, layers);
  return config;
}

}  // namespace

WeightsReport combine_adapter_folders(const std::vector<Path>& folders,
                                      const std::vector<double>& weights, const Path& to,
                                      const CombineFoldersOptions& options) {
  const at::NoGradGuard no_grad;
  check(options.combine);
  if (folders.empty() || folders.size() != weights.size()) {
    fail<ArgumentError>("combine", "there must be at least one adapter, and a weight for each",
                        fmt::format("{} adapters and {} weights", folders.size(), weights.size()));
  }
  if (!options.force) require_no_adapter(to, "combine");
  std::vector<AdapterFolder> adapters;
  for (const auto& folder : folders) adapters.push_back(read_factors_alone(folder));
  const auto base = only_base(adapters, folders);
  WeightsReport report;
  std::vector<NewLayer> layers;
  std::vector<SafetensorsEntry> entries;
  auto of_layer = options.combine;
  for (const auto& parts : parts_of(adapters, weights)) {
    const auto result = combine_factors(parts.factors, parts.weights, of_layer);
    ++of_layer.seed;  // with one seed, layers of the same shape would drop the same entries
    report.layers.push_back(error_of(parts, result));
    layers.push_back({parts.first.path, result.scaling, result.b, result.a});
    entries.push_back({parts.first.name_a, result.a});
    entries.push_back({parts.first.name_b, result.b});
  }
  const auto config = config_of(adapters[0], layers);
  const auto json =
      to_peft_json(config, {.modules = config.target_modules.names,
                            .parameters = {},
                            .fan_in_fan_out = adapters[0].json.value("fan_in_fan_out", false),
                            .base_model = {}});
  std::map<std::string, std::string> metadata = {{"format", "pt"}};
  if (!base.empty()) metadata[kFingerprintKey] = base;
  metadata[kConfigKey] = config_fingerprint(from_peft_json(json, to / kAdapterConfigFile));
  FileGroup files;
  write_safetensors(files.open(to / kAdapterWeightsFile), entries, metadata);
  files.add(to / kReportFile, to_text(to_json(report)) + "\n");
  files.add(to / kAdapterConfigFile, json.dump(2) + "\n");
  files.commit();
  return report;
}

}  // namespace lowrank
