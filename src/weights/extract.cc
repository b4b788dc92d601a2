#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <fmt/format.h>
#include <lowrank/error.h>
#include <lowrank/io/atomic_file.h>
#include <lowrank/io/json.h>
#include <lowrank/io/safetensors.h>
#include <lowrank/io/sha256.h>
#include <lowrank/linalg/error_figures.h>
#include <lowrank/linalg/leading_svd.h>
#include <lowrank/linalg/thin_svd.h>
#include <lowrank/weights/extract.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <string_view>
#include <system_error>

#include "adapter/peft/adapter_config.h"
#include "adapter/peft/folder.h"
#include "adapter/peft/keys.h"
#include "checkpoint/fingerprint.h"
#include "checkpoint/journal.h"
#include "checkpoint/staged_output.h"
#include "linalg/blocks.h"
#include "linalg/equal_noise.h"
#include "linalg/norm_in_float64.h"
#include "linalg/spectral_norm.h"
#include "weights/model_pair.h"
#include "weights/new_layers.h"
#include "weights/rank_budget.h"
#include "weights/resume_identity.h"

namespace lowrank {
namespace {

using Path = std::filesystem::path;

constexpr std::string_view kBias = ".bias";

/// What was extracted of one layer, as it lies in the folder of an unfinished extraction.
std::string layer_file(size_t i) { return fmt::format("layer-{:06}.safetensors", i); }

LayerError error_from_json(const std::string& name, const nlohmann::ordered_json& json) {
  LayerError error;
  error.name = name;
  error.rows = json.at("shape").at(0);
  error.columns = json.at("shape").at(1);
  error.rank = json.at("rank");
  error.norm = json.at("norm");
  error.frobenius = json.at("error").at("frobenius");
  error.spectral = json.at("error").at("spectral");
  return error;
}

/// Sets the errors of B·A. What is left of a large difference is rounded to float32 for its
/// spectral norm, which takes many products with it; a difference in float32 is overwritten by it,
/// so that no second matrix of its size is needed.
void measure(at::Tensor& difference, const NewLayer& layer, LayerError& error) {
  constexpr int64_t kSmallSide = 512;
  const bool is_single = difference.scalar_type() == at::kFloat;
  if (!is_single && std::min(difference.size(0), difference.size(1)) <= kSmallSide) {
    const auto figures = error_figures(difference, layer.b, layer.a);
    error.frobenius = figures.frobenius;
    error.spectral = figures.spectral;
    return;
  }
  const auto a = layer.a.to(at::kDouble), b = layer.b.to(at::kDouble);
  const auto rest = is_single ? difference : at::empty(difference.sizes(), at::kFloat);
  const auto rows = std::max<int64_t>(1, kBlockNumbers / difference.size(1));
  double squares = 0;
  for (int64_t begin = 0; begin < difference.size(0); begin += rows) {
    const auto size = std::min(rows, difference.size(0) - begin);
    const auto left = at::addmm(difference.narrow(0, begin, size).to(at::kDouble),
                                b.narrow(0, begin, size), a, 1, -1);
    squares += left.pow(2).sum().item<double>();
    rest.narrow(0, begin, size).copy_(left);
  }
  error.frobenius = std::sqrt(squares);
  error.spectral = lanczos_spectral_norm(rest);
}

/// An adapter that is made of two checkpoints.
class Extraction {
 public:
  Extraction(const ModelPair& pair, const ExtractOptions& options)
      : pair_(pair), options_(options), changes_(pair.changes()) {
    if (changes_.layers.empty()) {
      fail<FileError>("extract", "a layer's weight must differ between the models",
                      changes_.others.empty() ? "equal models" : "other tensors alone");
    }
    report_.unchanged = changes_.unchanged;
    for (const auto& name : changes_.layers) adapted_.insert(module_of(name));
    for (const auto& name : changes_.others) take_whole(name);
    add_whole();
    if (options.budget) plan();
  }

  void write(const Path& to) {
    StagedOutput stage(to, options_.resume, "extract");
    const std::set<std::string> names = {kAdapterWeightsFile, kReportFile, kAdapterConfigFile};
    stage.require_places(names);
    Journal journal(stage.journal(), identity(), options_.resume, "extract");
    for (size_t i = 0; i < changes_.layers.size(); ++i) {
      if (options_.on_layer) {
        options_.on_layer(changes_.layers[i], static_cast<int64_t>(i),
                          static_cast<int64_t>(changes_.layers.size()));
      }
      if (!take_finished(i, stage, journal)) take_layer(i, stage, journal);
    }
    const auto config = this->config();
    auto targets = PeftTargets{};
    targets.base_model =
        options_.base_name.empty() ? pair_.base().place().string() : options_.base_name;
    targets.fan_in_fan_out = options_.fan_in_fan_out;
    for (const auto& layer : layers_) targets.modules.push_back(layer.path);
    const auto json = to_peft_json(config, targets);
    auto entries = factors_;
    entries.insert(entries.end(), whole_.begin(), whole_.end());
    std::map<std::string, std::string> metadata = {
        {"format", "pt"}, {kConfigKey, config_fingerprint(from_peft_json(json, to))}};
    if (pair_.base().is_safetensors()) metadata[kFingerprintKey] = fingerprint_of(pair_.base());
    write_safetensors(stage.file(kAdapterWeightsFile), entries, metadata);
    write_file_atomically(stage.file(kReportFile), to_text(to_json(report_)) + "\n");
    write_file_atomically(stage.file(kAdapterConfigFile), to_text(json) + "\n");
    stage.publish_folder(names, {});
  }

  const WeightsReport& report() const { return report_; }

 private:
  /// Chooses the rank of every layer by the budget.
  void plan() {
    const auto& names = changes_.layers;
    std::vector<BudgetLayer> layers;
    for (const auto& name : names) {
      const auto shape = pair_.base().stored(name).shape;
      const auto rows = shape[0], columns = c10::multiply_integers(shape) / rows;
      layers.push_back(budget_layer(options_.rule, rows, columns));
    }
    const auto ranks =
        ranks_within_budget(layers, *options_.budget, "extract", [&](size_t i, int64_t count) {
          const auto delta = pair_.difference(names[i], /*in_float32=*/true);
          return leading_svd(delta, RankRule::at_most(count)).s.narrow(0, 0, count);
        });
    for (const auto rank : ranks) planned_.push_back(RankRule::number(rank));
  }

  /// What this extraction is, for its journal.
  std::string identity() const {
    nlohmann::ordered_json json = {{"base", file_identity(pair_.base())},
                                   {"tuned", file_identity(pair_.tuned())},
                                   {"rule", options_.rule.text()},
                                   {"budget", options_.budget.value_or(0)},
                                   {"split", static_cast<int>(options_.split)},
                                   {"whole", static_cast<int>(options_.whole)},
                                   {"dtype", c10::toString(options_.dtype)},
                                   {"fan_in_fan_out", options_.fan_in_fan_out}};
    return sha256_hex(to_text(json, -1));
  }

  /// Takes a layer that was finished before an interruption, if its file is as it was.
  bool take_finished(size_t i, const StagedOutput& stage, const Journal& journal) {
    const auto* entry = journal.find(changes_.layers[i]);
    const auto path = stage.file(layer_file(i));
    std::error_code none;
    if (entry == nullptr || !std::filesystem::exists(path, none)) return false;
    if (sha256_of_file(path) != entry->sha256) return false;
    const auto file = SafetensorsFile::open(path);
    take({.path = module_of(changes_.layers[i]),
          .scaling = 1,
          .b = file.tensor("b").clone(),
          .a = file.tensor("a").clone()},
         error_from_json(module_of(changes_.layers[i]), entry->report));
    ++report_.resumed;
    return true;
  }

  void take_layer(size_t i, const StagedOutput& stage, Journal& journal) {
    const auto& name = changes_.layers[i];
    const auto& rule = planned_.empty() ? options_.rule : planned_[i];
    const bool is_known = rule.known_rank(1, 1).has_value();
    auto delta = pair_.difference(name, /*in_float32=*/is_known);
    LayerError error;
    error.name = module_of(name);
    error.rows = delta.size(0);
    error.columns = delta.size(1);
    const auto svd = leading_svd(delta, rule);
    error.norm = norm_in_float64(delta);
    const auto chosen =
        rule.choose(values_for_rule(rule, svd.s, delta, name), error.rows, error.columns);
    error.rank = std::clamp<int64_t>(chosen, 1, svd.s.size(0));
    auto layer = factored(svd, error.rank,
                          {.scaling = 1,
                           .split = options_.split,
                           .dtype_b = options_.dtype,
                           .dtype_a = options_.dtype});
    layer.path = error.name;
    measure(delta, layer, error);
    require_measured("extract", error);
    const auto path = stage.file(layer_file(i));
    const auto bytes = serialize_safetensors({{"a", layer.a}, {"b", layer.b}});
    write_file_atomically(path, bytes);
    journal.add(name, {sha256_hex(bytes), to_json(error)});
    take(layer, error);
  }

  void take(const NewLayer& layer, const LayerError& error) {
    report_.layers.push_back(error);
    add_factors(layer, pair_.base().stored(error.name + ".weight").shape);
    layers_.push_back(layer);
  }

  void add_factors(const NewLayer& layer, const std::vector<int64_t>& weight) {
    std::vector<int64_t> shape_a = {layer.a.size(0)}, shape_b = {layer.b.size(0), layer.b.size(1)};
    if (weight.size() > 2) {
      shape_a.insert(shape_a.end(), weight.begin() + 1, weight.end());
      shape_b.insert(shape_b.end(), weight.size() - 2, 1);
    } else {
      shape_a.push_back(layer.a.size(1));
    }
    factors_.push_back({kKeyPrefix + layer.path + "." + kKeyA, layer.a.view(shape_a)});
    factors_.push_back({kKeyPrefix + layer.path + "." + kKeyB, layer.b.view(shape_b)});
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
                             const at::Tensor& delta, const std::string& name) const {
    if (!rule.assumes_white_noise()) return values;
    const auto before = pair_.base().tensor(name), after = pair_.tuned().tensor(name);
    const bool are_halves = before.element_size() <= 2 || after.element_size() <= 2;
    if (!are_halves) return values;
    return singular_values(with_equal_noise(delta, pair_.matrix(before), pair_.matrix(after)));
  }

  LoraConfig config() const {
    LoraConfig config;
    set_ranks(config, layers_);
    std::vector<std::string> modules;
    for (const auto& layer : layers_) modules.push_back(layer.path);
    config.target_modules = targets_alone(modules);
    config.modules_to_save.assign(saved_modules_.begin(), saved_modules_.end());
    if (saves_biases_) config.bias = BiasMode::kAll;
    return config;
  }

  /// Names in target_modules also match the ends of longer paths. Where one of those is a layer
  /// that did not change, a regular expression names the whole paths.
  ModuleSelector targets_alone(const std::vector<std::string>& modules) const {
    const auto& names = pair_.base().names();
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
  void add_whole() {
    for (const auto& name : report_.whole) {
      const auto module = module_of(name);
      if (is_adapted(module) && name.ends_with(kBias)) {
        saves_biases_ = true;
      } else if (is_adapted(module) || module.empty()) {
        fail<FileError>("extract",
                        "a tensor that is saved whole must belong to a module of its own",
                        fmt::format("\"{}\"", name), "Skip such tensors.");
      } else {
        saved_modules_.insert(module);
      }
    }
    for (const auto& name : pair_.tuned().names()) {
      const bool is_bias = saves_biases_ && name.ends_with(kBias);
      const auto module = module_of(name);
      if (!is_bias && !saved_modules_.contains(module)) continue;
      // In PEFT an adapted layer is wrapped.
      const auto key = is_adapted(module) ? module + ".base_layer" + std::string(kBias) : name;
      whole_.push_back({kKeyPrefix + key, pair_.tuned().tensor(name)});
      report_.whole_numbers += whole_.back().tensor.numel();
    }
  }

  const ModelPair& pair_;
  const ExtractOptions& options_;
  ModelChanges changes_;
  std::set<std::string> adapted_;        // the paths of the layers
  std::set<std::string> saved_modules_;  // modules_to_save
  bool saves_biases_ = false;
  std::vector<RankRule> planned_;  // by the budget, of each layer
  std::vector<NewLayer> layers_;
  std::vector<SafetensorsEntry> factors_, whole_;
  WeightsReport report_;
};

}  // namespace

WeightsReport extract_adapter(const Checkpoint& base, const Checkpoint& tuned, const Path& to,
                              const ExtractOptions& options) {
  const at::NoGradGuard no_grad;
  const ModelPair pair(base, tuned, options.fan_in_fan_out);
  if (!options.force) require_no_adapter(to, "extract");
  Extraction extraction(pair, options);
  extraction.write(to);
  return extraction.report();
}

}  // namespace lowrank
