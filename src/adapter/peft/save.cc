#include <ATen/ATen.h>
#include <fmt/format.h>
#include <lowrank/adapter/adapter.h>
#include <lowrank/error.h>
#include <lowrank/io/atomic_file.h>
#include <lowrank/io/safetensors.h>

#include <algorithm>
#include <cmath>

#include "adapter/init/initialise.h"
#include "adapter/peft/adapter_config.h"
#include "adapter/peft/folder.h"
#include "adapter/peft/keys.h"
#include "adapter/state.h"

// Saves adapters to disk: PEFT's folder of adapter_config.json and adapter_model.safetensors.
namespace lowrank {
namespace {

using Path = std::filesystem::path;

constexpr const char* kTopAdapter = "default";  // PEFT keeps the others in subfolders

/// Returns whether PEFT makes the same initial factors from this layer's weight. It cannot if they
/// needed data or random numbers. It has no such initialisation for convolutions and parameters,
/// and its OLoRA fails on a Conv1D.
bool can_be_repeated(const LayerFactors& layer, LoraInit init) {
  switch (init) {
    case LoraInit::kPissa:
      return layer.target.kind == LayerKind::kLinear || layer.target.kind == LayerKind::kConv1D;
    case LoraInit::kOlora:
      return layer.target.kind == LayerKind::kLinear;
    default:
      return false;
  }
}

/// Returns whether a reader that knows only the config would subtract other factors from the base,
/// or none.
bool needs_conversion(const NamedAdapter& adapter) {
  return std::any_of(adapter.layers.begin(), adapter.layers.end(), [&](const auto& layer) {
    return layer.minus_a.defined() && !can_be_repeated(layer, adapter.config.init);
  });
}

/// s·(B·A - B₀·A₀) = s·[B, -B₀]·[A; A₀], with twice the rank and the alpha that keeps s (PEFT,
/// tuners/lora/model.py, subtract_mutated_init). A layer from which nothing is subtracted gets
/// zeros instead.
NamedAdapter converted(NamedAdapter adapter) {
  auto& config = adapter.config;
  const double growth = config.use_rslora ? std::sqrt(2.0) : 2.0;
  config.init = LoraInit::kKaimingUniform;
  config.rank *= 2;
  config.alpha *= growth;
  for (auto& [key, rank] : config.rank_pattern) rank *= 2;
  for (auto& [key, alpha] : config.alpha_pattern) alpha *= growth;
  for (auto& layer : adapter.layers) {
    const bool off = layer.minus_a.defined();
    layer.a = at::cat({layer.a, off ? layer.minus_a : at::zeros_like(layer.a)}, 0);
    layer.b = at::cat({layer.b, off ? -layer.minus_b : at::zeros_like(layer.b)}, 1);
  }
  return adapter;
}

/// PEFT has no orthogonal init for convolutions, and no CorDA or LoRA-GA without data. It refuses
/// to load a config with these names, although no number depends on them any more.
bool is_init_refused_by_peft(const NamedAdapter& adapter) {
  if (subtracts_data_factors(adapter.config.init)) return true;
  return adapter.config.init == LoraInit::kOrthogonal &&
         std::any_of(adapter.layers.begin(), adapter.layers.end(),
                     [](const auto& layer) { return layer.target.kind == LayerKind::kConv; });
}

/// PEFT's files have no place for set_scale(), so it becomes a part of alpha.
NamedAdapter with_scale_in_alpha(NamedAdapter adapter) {
  if (adapter.scale == 0) {
    fail<TensorError>("save", "an adapter that is saved must have a scale other than 0",
                      fmt::format("a scale of 0 for \"{}\"", adapter.name),
                      "The file could not give the factors back: call set_scale() first.");
  }
  adapter.config.alpha *= adapter.scale;
  for (auto& [key, alpha] : adapter.config.alpha_pattern) alpha *= adapter.scale;
  adapter.scale = 1;
  return adapter;
}

/// Returns the adapter as it is to be written.
NamedAdapter adapter_to_write(const NamedAdapter& adapter, bool wants_conversion) {
  const bool convert =
      subtracts_from_base(adapter) && (wants_conversion || needs_conversion(adapter));
  auto written = with_scale_in_alpha(convert ? converted(adapter) : adapter);
  if (is_init_refused_by_peft(written)) written.config.init = LoraInit::kKaimingUniform;
  return written;
}

PeftTargets targets_of(const NamedAdapter& adapter, const std::string& base_model) {
  PeftTargets targets;
  targets.base_model = base_model;
  for (const auto& layer : adapter.layers) {
    const auto path = layer.target.chosen_path();
    auto& paths = layer.target.is_parameter ? targets.parameters : targets.modules;
    if (std::find(paths.begin(), paths.end(), path) == paths.end()) paths.push_back(path);
    targets.fan_in_fan_out |= layer.target.kind == LayerKind::kConv1D;
  }
  return targets;
}

/// No config can name the model itself.
void require_named_layers(const NamedAdapter& adapter) {
  for (const auto& layer : adapter.layers) {
    if (!layer.target.path().empty()) continue;
    fail<TensorError>("save", "the layers of an adapter that is saved must have names",
                      "a model that is itself the layer",
                      "Attach to a module that holds it, a Sequential for example.");
  }
}

/// An adapter that was trained beside buffers that its file cannot hold gives other outputs on the
/// base when it is loaded.
void require_buffers_unchanged(const Adapter::State& state, const SaveOptions& options) {
  if (options.leave_changed_buffers) return;
  const auto names = changed_buffers(state);
  if (names.empty()) return;
  fail<TensorError>(
      "save", "the model's buffers must be as they were at attach(), because the file lacks them",
      fmt::format("other values in {}", list_names(names)),
      "Name their modules in modules_to_save, or save with leave_changed_buffers.");
}

void add_files(FileGroup& files, const Path& folder, const NamedAdapter& named,
               const SaveOptions& options, const std::string& fingerprint) {
  require_named_layers(named);
  if (!options.force) require_no_adapter(folder, "save", "SaveOptions::force replaces it.");
  const auto adapter = adapter_to_write(named, options.convert);
  std::vector<SafetensorsEntry> entries;
  for (const auto& tensor : file_tensors(adapter)) {
    entries.push_back({kKeyPrefix + tensor.name, tensor.tensor.detach().reshape(tensor.shape)});
  }
  const auto config = to_peft_json(adapter.config, targets_of(adapter, options.base_model));
  write_safetensors(files.open(folder / kAdapterWeightsFile), entries,
                    {{"format", "pt"},
                     {kFingerprintKey, fingerprint},
                     {kConfigKey, config_fingerprint(from_peft_json(config, folder))}});
  files.add(folder / kAdapterConfigFile, config.dump(2) + "\n");
}

}  // namespace

void Adapter::save(const Path& folder, const SaveOptions& options) const {
  const StateLock lock(state_->mutex);
  require_unmerged(*this, "save");
  state_->require_none_lost("save");
  require_buffers_unchanged(*state_, options);
  FileGroup files;
  add_files(files, folder, state_->adapter(options.adapter), options,
            fingerprints_of(*state_).whole);
  for (const auto& [name, content] : options.further_files) files.add(folder / name, content);
  files.commit();
}

void Adapter::save_all(const Path& folder, const SaveOptions& options) const {
  const StateLock lock(state_->mutex);
  require_unmerged(*this, "save");
  state_->require_none_lost("save");
  require_buffers_unchanged(*state_, options);
  const auto fingerprint = fingerprints_of(*state_).whole;
  FileGroup files;
  for (const auto& adapter : state_->adapters) {
    const auto own = adapter.name == kTopAdapter ? folder : folder / adapter.name;
    add_files(files, own, adapter, options, fingerprint);
  }
  files.commit();
}

}  // namespace lowrank
