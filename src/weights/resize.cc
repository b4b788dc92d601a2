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
#include "linalg/norm_in_float64.h"
#include "linalg/product_svd.h"
#include "weights/new_layers.h"
#include "weights/plain_adapter.h"
#include "weights/rank_budget.h"

namespace lowrank {
namespace {

using Path = std::filesystem::path;

/// The factors of a layer's update in float64, with the scaling in B.
struct Factors {
  at::Tensor b, a;
};

Factors factors_of(const FolderLayer& layer) {
  return {finite_matrix("resize", layer.name_b, layer.b.flatten(1)).to(at::kDouble) * layer.scaling,
          finite_matrix("resize", layer.name_a, layer.a.flatten(1)).to(at::kDouble)};
}

/// Returns the new layer with its error.
NewLayer resize(const FolderLayer& old, const RankRule& rule, const ResizeOptions& options,
                LayerError& error) {
  const auto [b, a] = factors_of(old);
  const auto update = product_svd(b, a);
  error.name = old.path;
  error.rows = b.size(0);
  error.columns = a.size(1);
  error.rank_before = old.rank();
  error.norm = norm_in_float64(update.s);
  const auto chosen = rule.choose(update.s, error.rows, error.columns);
  error.rank = std::clamp<int64_t>(chosen, 1, std::max<int64_t>(1, update.s.size(0)));
  auto layer = factored(update, error.rank,
                        {.scaling = old.scaling,
                         .split = options.split,
                         .dtype_b = options.dtype.value_or(old.b.scalar_type()),
                         .dtype_a = options.dtype.value_or(old.a.scalar_type())});
  layer.path = old.path;
  // ΔW - s·B'·A' is the product of these two, whose rank is at most the sum of both ranks.
  const auto rest = product_svd(at::cat({b, layer.b.to(at::kDouble) * -old.scaling}, 1),
                                at::cat({a, layer.a.to(at::kDouble)}, 0));
  error.frobenius = norm_in_float64(rest.s);
  error.spectral = rest.s.numel() == 0 ? 0 : rest.s.max().item<double>();
  require_measured("resize", error);
  return layer;
}

/// Returns the rule of every layer: that of the options, or the rank that the budget gives it.
std::vector<RankRule> rules_of(const std::vector<FolderLayer>& layers,
                               const ResizeOptions& options) {
  std::vector<RankRule> rules(layers.size(), options.rule);
  if (!options.budget) return rules;
  rules.clear();
  std::vector<BudgetLayer> sizes;
  std::vector<at::Tensor> values;
  for (const auto& layer : layers) {
    const auto [b, a] = factors_of(layer);
    sizes.push_back(budget_layer(options.rule, b.size(0), a.size(1)));
    sizes.back().most = std::min(sizes.back().most, layer.rank());
    sizes.back().least = std::min(sizes.back().least, sizes.back().most);
    values.push_back(product_svd(b, a).s);
  }
  for (const auto rank : ranks_within_budget(
           sizes, *options.budget, "resize",
           [&](size_t i, int64_t count) { return values[i].narrow(0, 0, count); })) {
    rules.push_back(RankRule::number(rank));
  }
  return rules;
}

/// A note where a larger rank is asked for than layers have; otherwise nothing.
std::string note_of_ranks(const std::vector<FolderLayer>& layers,
                          const std::vector<RankRule>& rules) {
  size_t below = 0;
  for (size_t i = 0; i < layers.size(); ++i) {
    const auto asked = rules[i].known_rank(layers[i].b.size(0), layers[i].a.flatten(1).size(1));
    below += asked && *asked > layers[i].rank() ? 1 : 0;
  }
  if (below == 0) return {};
  return fmt::format("{} of {} layers have a smaller rank than was asked for, and keep it.", below,
                     layers.size());
}

at::Tensor shaped(const at::Tensor& matrix, const at::Tensor& old, int64_t rank, int64_t side) {
  auto shape = old.sizes().vec();
  shape[static_cast<size_t>(side)] = rank;
  return matrix.view(shape);
}

void write_resized(const AdapterFolder& adapter, const std::vector<NewLayer>& layers,
                   const WeightsReport& report, const Path& to, bool adds_lora_bias,
                   const std::vector<std::pair<std::string, std::string>>& further_files) {
  auto config = adapter.config;
  set_ranks(config, layers);
  auto json = adapter.json;
  const auto written = to_peft_json(config, {});
  for (const char* field : {"r", "lora_alpha", "rank_pattern", "alpha_pattern"}) {
    json[field] = written.at(field);
  }
  if (adds_lora_bias) json["lora_bias"] = true;
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
  const auto on_biases = note_of_biases(adapter, from);
  if (!on_biases.empty()) report.notes.push_back(on_biases);
  report.config_matches = config_matches(adapter.file, adapter.config);
  std::vector<NewLayer> layers;
  const auto rules = rules_of(adapter.layers, options);
  for (size_t i = 0; i < rules.size(); ++i) {
    report.layers.emplace_back();
    layers.push_back(resize(adapter.layers[i], rules[i], options, report.layers.back()));
  }
  const auto on_ranks = note_of_ranks(adapter.layers, rules);
  if (!on_ranks.empty()) report.notes.push_back(on_ranks);
  write_resized(adapter, layers, report, to, !on_biases.empty(), options.further_files);
  return report;
}

}  // namespace lowrank
