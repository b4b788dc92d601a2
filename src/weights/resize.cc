#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <fmt/format.h>
#include <lowrank/error.h>
#include <lowrank/io/atomic_file.h>
#include <lowrank/io/json.h>
#include <lowrank/io/safetensors.h>
#include <lowrank/weights/resize.h>

#include <algorithm>

#include "adapter/peft/adapter_config.h"
#include "adapter/peft/keys.h"
#include "linalg/matrix.h"
#include "linalg/product_svd.h"
#include "weights/new_layers.h"
#include "weights/plain_adapter.h"

namespace lowrank {
namespace {

using Path = std::filesystem::path;

/// Returns the update as singular triplets, and the new layer with its error.
NewLayer resize(const FolderLayer& old, const ResizeOptions& options, LayerError& error) {
  const auto a = finite_matrix("resize", old.name_a, old.a.flatten(1)).to(at::kDouble);
  const auto b =
      finite_matrix("resize", old.name_b, old.b.flatten(1)).to(at::kDouble) * old.scaling;
  const auto update = product_svd(b, a);
  error.name = old.path;
  error.rows = b.size(0);
  error.columns = a.size(1);
  error.rank_before = old.rank();
  error.norm = scaled_norm(update.s);
  const auto chosen = options.rule.choose(update.s, error.rows, error.columns);
  error.rank = std::clamp<int64_t>(chosen, 1, std::max<int64_t>(1, update.s.size(0)));
  auto layer =
      factored(update, error.rank, old.scaling, options.dtype.value_or(old.b.scalar_type()),
               options.dtype.value_or(old.a.scalar_type()));
  layer.path = old.path;
  // ΔW - s·B'·A' is the product of these two, whose rank is at most the sum of both ranks.
  const auto rest = product_svd(at::cat({b, layer.b.to(at::kDouble) * -old.scaling}, 1),
                                at::cat({a, layer.a.to(at::kDouble)}, 0));
  error.frobenius = scaled_norm(rest.s);
  error.spectral = rest.s.numel() == 0 ? 0 : rest.s.max().item<double>();
  require_measured("resize", error);
  return layer;
}

at::Tensor shaped(const at::Tensor& matrix, const at::Tensor& old, int64_t rank, int64_t side) {
  auto shape = old.sizes().vec();
  shape[static_cast<size_t>(side)] = rank;
  return matrix.view(shape);
}

void write_resized(const AdapterFolder& adapter, const std::vector<NewLayer>& layers,
                   const WeightsReport& report, const Path& to,
                   const std::vector<std::pair<std::string, std::string>>& further_files) {
  auto config = adapter.config;
  set_ranks(config, layers);
  auto json = adapter.json;
  const auto written = to_peft_json(config, {});
  for (const char* field : {"r", "lora_alpha", "rank_pattern", "alpha_pattern"}) {
    json[field] = written.at(field);
  }
  std::vector<SafetensorsEntry> entries;
  for (size_t i = 0; i < layers.size(); ++i) {
    const auto& old = adapter.layers[i];
    const auto rank = layers[i].a.size(0);
    entries.push_back({old.name_a, shaped(layers[i].a, old.a, rank, 0)});
    entries.push_back({old.name_b, shaped(layers[i].b, old.b, rank, 1)});
  }
  for (const auto& name : adapter.others) entries.push_back({name, adapter.file.tensor(name)});
  auto metadata = adapter.file.metadata();
  metadata[kConfigKey] = config_fingerprint(from_peft_json(json, to / kAdapterConfigFile));
  FileGroup files;
  write_safetensors(files.open(to / kAdapterWeightsFile), entries, metadata);
  for (const auto& [name, content] : further_files) files.add(to / name, content);
  files.add(to / kReportFile, to_text(to_json(report)) + "\n");
  files.add(to / kAdapterConfigFile, json.dump(2) + "\n");
  files.commit();
}

}  // namespace

WeightsReport resize_adapter(const Path& from, const Path& to, const ResizeOptions& options) {
  const at::NoGradGuard no_grad;
  const auto adapter = read_plain_adapter(from, "resize");
  if (!options.force) require_no_adapter(to, "resize");
  WeightsReport report;
  report.config_matches = config_matches(adapter.file, adapter.config);
  std::vector<NewLayer> layers;
  for (const auto& old : adapter.layers) {
    report.layers.emplace_back();
    layers.push_back(resize(old, options, report.layers.back()));
  }
  write_resized(adapter, layers, report, to, options.further_files);
  return report;
}

}  // namespace lowrank
