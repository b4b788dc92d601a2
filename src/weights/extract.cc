#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <fmt/format.h>
#include <lowrank/error.h>
#include <lowrank/io/atomic_file.h>
#include <lowrank/io/json.h>
#include <lowrank/io/safetensors.h>
#include <lowrank/linalg/error_figures.h>
#include <lowrank/linalg/leading_svd.h>
#include <lowrank/linalg/thin_svd.h>
#include <lowrank/weights/extract.h>

#include <algorithm>
#include <array>
#include <map>
#include <set>
#include <string_view>

#include "adapter/peft/adapter_config.h"
#include "adapter/peft/folder.h"
#include "adapter/peft/keys.h"
#include "io/shape_text.h"
#include "linalg/equal_noise.h"
#include "linalg/matrix.h"
#include "weights/budget.h"
#include "weights/new_layers.h"

namespace lowrank {
namespace {

using Path = std::filesystem::path;

constexpr std::string_view kWeight = ".weight", kBias = ".bias";

/// Modules whose weight has a row for each token, position or kind of token, by the last part of
/// their path, in the models of transformers.
constexpr std::array<std::string_view, 14> kTables = {"embed_tokens",
                                                      "embed_positions",
                                                      "embeddings",
                                                      "embed_in",
                                                      "embed_out",
                                                      "lm_head",
                                                      "position_embeddings",
                                                      "shared",
                                                      "tok_embeddings",
                                                      "token_embedding",
                                                      "token_type_embeddings",
                                                      "word_embeddings",
                                                      "wpe",
                                                      "wte"};

/// "layers.0.mlp" of "layers.0.mlp.weight"; empty if the name has no dot.
std::string module_of(const std::string& name) {
  const auto dot = name.rfind('.');
  return dot == std::string::npos ? std::string() : name.substr(0, dot);
}

bool is_layer(const std::string& name, const at::Tensor& weight) {
  if (weight.dim() < 2 || !weight.is_floating_point() || !name.ends_with(kWeight)) return false;
  const auto module = module_of(name);
  const auto dot = module.rfind('.');
  const auto last = std::string_view(module).substr(dot == std::string::npos ? 0 : dot + 1);
  return !last.empty() && std::find(kTables.begin(), kTables.end(), last) == kTables.end();
}

bool are_equal(const at::Tensor& before, const at::Tensor& after) {
  return before.scalar_type() == after.scalar_type() && at::equal(before, after);
}

/// Throws unless both models have the same tensors of the same shapes.
void require_same_tensors(const Checkpoint& base, const Checkpoint& tuned) {
  const auto missing = [](const Checkpoint& from, const Checkpoint& in) {
    std::vector<std::string> names;
    for (const auto& name : from.names()) {
      if (!in.contains(name)) names.push_back(name);
    }
    return names;
  };
  for (const auto& [from, in] : {std::pair(&base, &tuned), std::pair(&tuned, &base)}) {
    const auto names = missing(*from, *in);
    if (names.empty()) continue;
    fail<FileError>("extract", "both models must have the same tensors",
                    fmt::format("{} in \"{}\" and not in \"{}\": {}", names.size(),
                                from->place().string(), in->place().string(), list_names(names)));
  }
  for (const auto& name : base.names()) {
    const auto one = base.stored(name).shape, other = tuned.stored(name).shape;
    if (one == other) continue;
    fail<FileError>("extract", fmt::format("\"{}\" must have one shape in both models", name),
                    fmt::format("{} and {}", shape_text(one), shape_text(other)));
  }
}

/// An adapter that is made of two checkpoints.
class Extraction {
 public:
  Extraction(const Checkpoint& base, const Checkpoint& tuned, const ExtractOptions& options)
      : base_(base), tuned_(tuned), options_(options) {}

  /// Chooses the rank of every layer by the budget.
  void plan() {
    std::vector<std::string> names;
    std::vector<BudgetLayer> layers;
    for (const auto& name : base_.names()) {
      const auto before = base_.tensor(name), after = tuned_.tensor(name);
      if (are_equal(before, after) || !is_layer(name, before)) continue;
      const auto rows = before.size(0), columns = before.numel() / rows;
      names.push_back(name);
      layers.push_back(budget_layer(options_.rule, rows, columns));
    }
    const auto ranks =
        ranks_within_budget(layers, *options_.budget, "extract", [&](size_t i, int64_t count) {
          const auto& name = names[i];
          const auto delta = difference(name, base_.tensor(name), tuned_.tensor(name));
          return leading_svd(delta, RankRule::at_most(count)).s.narrow(0, 0, count);
        });
    for (size_t i = 0; i < names.size(); ++i) {
      planned_.emplace(names[i], RankRule::number(ranks[i]));
    }
  }

  void take(const std::string& name) {
    const auto before = base_.tensor(name), after = tuned_.tensor(name);
    if (are_equal(before, after)) {
      ++report_.unchanged;
    } else if (is_layer(name, before)) {
      take_layer(name, before, after);
    } else {
      take_whole(name);
    }
  }

  void write(const Path& to) {
    if (layers_.empty()) {
      fail<FileError>("extract", "a layer's weight must differ between the models",
                      report_.whole.empty() && report_.skipped.empty() ? "equal models"
                                                                       : "other tensors alone");
    }
    LoraConfig config;
    set_ranks(config, layers_);
    PeftTargets targets;
    targets.base_model = options_.base_name.empty() ? base_.place().string() : options_.base_name;
    targets.fan_in_fan_out = options_.fan_in_fan_out;
    for (const auto& layer : layers_) targets.modules.push_back(layer.path);
    config.target_modules = targets_alone(targets.modules);
    add_whole(config);
    const auto json = to_peft_json(config, targets);
    FileGroup files;
    write_safetensors(
        files.open(to / kAdapterWeightsFile), entries_,
        {{"format", "pt"}, {kConfigKey, config_fingerprint(from_peft_json(json, to))}});
    files.add(to / kReportFile, to_text(to_json(report_)) + "\n");
    files.add(to / kAdapterConfigFile, json.dump(2) + "\n");
    files.commit();
  }

  const WeightsReport& report() const { return report_; }

 private:
  /// ΔW (out, in) in float64.
  at::Tensor difference(const std::string& name, const at::Tensor& before,
                        const at::Tensor& after) const {
    auto delta = after.to(at::kDouble).sub(before.to(at::kDouble)).flatten(1);
    if (options_.fan_in_fan_out && before.dim() == 2) delta = delta.t();
    return finite_matrix("extract", fmt::format("the difference of \"{}\"", name), delta);
  }

  void take_layer(const std::string& name, const at::Tensor& before, const at::Tensor& after) {
    const auto delta = difference(name, before, after);
    const auto planned = planned_.find(name);
    const auto& rule = planned == planned_.end() ? options_.rule : planned->second;
    LayerError error;
    error.name = module_of(name);
    error.rows = delta.size(0);
    error.columns = delta.size(1);
    const auto svd = leading_svd(delta, rule);
    error.norm = scaled_norm(delta);
    const auto values = values_for_rule(rule, svd.s, delta, before, after);
    const auto chosen = rule.choose(values, error.rows, error.columns);
    error.rank = std::clamp<int64_t>(chosen, 1, svd.s.size(0));
    auto layer = factored(svd, error.rank,
                          {.scaling = 1,
                           .split = options_.split,
                           .dtype_b = options_.dtype,
                           .dtype_a = options_.dtype});
    layer.path = error.name;
    const auto figures = error_figures(delta, layer.b, layer.a);
    error.frobenius = figures.frobenius;
    error.spectral = figures.spectral;
    require_measured("extract", error);
    report_.layers.push_back(error);
    add_factors(layer, before);
    adapted_.insert(layer.path);
    layers_.push_back(layer);
  }

  void add_factors(const NewLayer& layer, const at::Tensor& weight) {
    std::vector<int64_t> shape_a = {layer.a.size(0)}, shape_b = {layer.b.size(0), layer.b.size(1)};
    if (weight.dim() > 2) {
      const auto rest = weight.sizes().slice(1);
      shape_a.insert(shape_a.end(), rest.begin(), rest.end());
      shape_b.insert(shape_b.end(), rest.size() - 1, 1);
    } else {
      shape_a.push_back(layer.a.size(1));
    }
    entries_.push_back({kKeyPrefix + layer.path + "." + kKeyA, layer.a.view(shape_a)});
    entries_.push_back({kKeyPrefix + layer.path + "." + kKeyB, layer.b.view(shape_b)});
  }

  void take_whole(const std::string& name) {
    if (options_.whole == WholeTensors::kRefuse) {
      fail<FileError>("extract", "only weights of layers must differ between the models",
                      fmt::format("\"{}\"", name), "Save such tensors whole, or skip them.");
    }
    auto& names = options_.whole == WholeTensors::kSave ? report_.whole : report_.skipped;
    names.push_back(name);
  }

  /// Returns the singular values by which the rule chooses.
  at::Tensor values_for_rule(const RankRule& rule, const at::Tensor& values,
                             const at::Tensor& delta, const at::Tensor& before,
                             const at::Tensor& after) const {
    const bool are_halves = before.element_size() <= 2 || after.element_size() <= 2;
    if (!rule.assumes_white_noise() || !are_halves) return values;
    const auto matrix = [&](const at::Tensor& weight) {
      const auto rows = weight.flatten(1);
      return options_.fan_in_fan_out && weight.dim() == 2 ? rows.t() : rows;
    };
    return singular_values(with_equal_noise(delta, matrix(before), matrix(after)));
  }

  /// Names in target_modules also match the ends of longer paths. Where one of those is a layer
  /// that did not change, a regular expression names the whole paths.
  ModuleSelector targets_alone(const std::vector<std::string>& modules) const {
    const auto& names = base_.names();
    const bool catches_others = std::any_of(names.begin(), names.end(), [&](const auto& name) {
      const auto module = module_of(name);
      return !is_adapted(module) && is_caught(module, adapted_);
    });
    if (!catches_others) return modules;
    std::string regex;
    for (const auto& module : modules) regex += (regex.empty() ? "" : "|") + escaped(module);
    return ModuleSelector::matching(regex);
  }

  bool is_adapted(const std::string& module) const { return adapted_.contains(module); }

  /// A module in modules_to_save is saved with all its tensors, and bias="all" with every bias of
  /// the model.
  void add_whole(LoraConfig& config) {
    std::set<std::string> modules;
    bool has_biases = false;
    for (const auto& name : report_.whole) {
      const auto module = module_of(name);
      if (is_adapted(module) && name.ends_with(kBias)) {
        has_biases = true;
      } else if (is_adapted(module) || module.empty()) {
        fail<FileError>("extract",
                        "a tensor that is saved whole must belong to a module of its own",
                        fmt::format("\"{}\"", name), "Skip such tensors.");
      } else {
        modules.insert(module);
      }
    }
    for (const auto& name : tuned_.names()) {
      const bool is_bias = has_biases && name.ends_with(kBias);
      const auto module = module_of(name);
      if (!is_bias && !modules.contains(module)) continue;
      // In PEFT an adapted layer is wrapped.
      const auto key = is_adapted(module) ? module + ".base_layer" + std::string(kBias) : name;
      entries_.push_back({kKeyPrefix + key, tuned_.tensor(name)});
    }
    config.modules_to_save.assign(modules.begin(), modules.end());
    if (has_biases) config.bias = BiasMode::kAll;
  }

  const Checkpoint& base_;
  const Checkpoint& tuned_;
  const ExtractOptions& options_;
  std::map<std::string, RankRule> planned_;  // by the budget, of the weights of layers
  std::vector<NewLayer> layers_;
  std::set<std::string> adapted_;  // their paths
  std::vector<SafetensorsEntry> entries_;
  WeightsReport report_;
};

}  // namespace

WeightsReport extract_adapter(const Checkpoint& base, const Checkpoint& tuned, const Path& to,
                              const ExtractOptions& options) {
  const at::NoGradGuard no_grad;
  require_same_tensors(base, tuned);
  if (!options.force) require_no_adapter(to, "extract");
  Extraction extraction(base, tuned, options);
  if (options.budget) extraction.plan();
  const auto& names = base.names();
  for (size_t i = 0; i < names.size(); ++i) {
    if (options.on_tensor) {
      options.on_tensor(names[i], static_cast<int64_t>(i), static_cast<int64_t>(names.size()));
    }
    extraction.take(names[i]);
  }
  extraction.write(to);
  return extraction.report();
}

}  // namespace lowrank
