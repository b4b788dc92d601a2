#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <fmt/ranges.h>
#include <lowrank/adapter/adapter.h>
#include <lowrank/error.h>
#include <lowrank/io/atomic_file.h>
#include <lowrank/io/safetensors.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "adapter/adapter_keys.h"
#include "adapter/peft_config.h"
#include "adapter/state.h"

// An adapter on disk: PEFT's folder of adapter_config.json and adapter_model.safetensors
// (utils/save_and_load.py), with the base's fingerprint in the safetensors metadata.
namespace lowrank {
namespace {

using Path = std::filesystem::path;

constexpr const char* kConfigFile = "adapter_config.json";
constexpr const char* kWeightsFile = "adapter_model.safetensors";
constexpr const char* kFingerprint = "lowrank.base_sha256";

/// Whether what is taken off the base comes from data, which no file holds.
bool comes_from_data(LoraInit init) {
  return init == LoraInit::kCorda || init == LoraInit::kLoraGa;
}

/// Whether PEFT makes the same factors of this layer's weight again. What needed data or random
/// numbers it cannot; convolutions and parameters have no such initialisation there, and OLoRA
/// fails on a Conv1D.
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

/// Whether a reader that knows the config alone would take other factors off the base, or none.
bool needs_plain_form(const NamedAdapter& adapter) {
  return std::any_of(adapter.layers.begin(), adapter.layers.end(), [&](const auto& layer) {
    return layer.minus_a.defined() && !can_be_repeated(layer, adapter.config.init);
  });
}

/// s·(B·A - B₀·A₀) = s·[B, -B₀]·[A; A₀], with twice the rank and the alpha that keeps s (PEFT,
/// tuners/lora/model.py, subtract_mutated_init). Where nothing is taken off, zeros stand for it.
NamedAdapter plain_form(NamedAdapter adapter) {
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

/// PEFT knows no orthogonal convolutions, and no CorDA nor LoRA-GA without data, and refuses their
/// names although nothing hangs on them.
bool is_named_in_vain(const NamedAdapter& adapter) {
  if (comes_from_data(adapter.config.init)) return true;
  return adapter.config.init == LoraInit::kOrthogonal &&
         std::any_of(adapter.layers.begin(), adapter.layers.end(),
                     [](const auto& layer) { return layer.target.kind == LayerKind::kConv; });
}

/// An adapter as it is written.
NamedAdapter form_for_file(const NamedAdapter& adapter, bool want_plain_form) {
  const bool plain = takes_off_the_base(adapter) && (want_plain_form || needs_plain_form(adapter));
  auto form = plain ? plain_form(adapter) : adapter;
  if (is_named_in_vain(form)) form.config.init = LoraInit::kKaimingUniform;
  return form;
}

PeftTargets targets_of(const NamedAdapter& adapter, const std::string& base_model) {
  PeftTargets targets;
  targets.base_model = base_model;
  for (const auto& layer : adapter.layers) {
    const auto path = layer.target.path();
    (layer.target.parameter == "weight" ? targets.modules : targets.parameters).push_back(path);
    targets.fan_in_fan_out |= layer.target.kind == LayerKind::kConv1D;
  }
  return targets;
}

void require_new(const Path& folder) {
  for (const char* name : {kConfigFile, kWeightsFile}) {
    if (!std::filesystem::exists(folder / name)) continue;
    fail<FileError>("save", fmt::format("\"{}\" must not hold an adapter yet", folder.string()),
                    fmt::format("a {}", name), "Use force to replace it.");
  }
}

void require_file(const Path& folder, const char* name) {
  if (std::filesystem::exists(folder / name)) return;
  const bool pickle = std::filesystem::exists(folder / "adapter_model.bin");
  fail<FileError>(
      "load", fmt::format("an adapter folder must hold {}", name),
      fmt::format("none in \"{}\"", folder.string()),
      pickle && std::string(name) == kWeightsFile
          ? "Its adapter_model.bin is a pickle, which is never executed here; convert it: python3 "
            "-c \"import torch, safetensors.torch as s; s.save_file(torch.load('adapter_model.bin',"
            " weights_only=True), 'adapter_model.safetensors')\"."
          : "");
}

/// A tensor of the file, checked against what the model's layer needs.
at::Tensor read_tensor(const SafetensorsFile& file, const std::string& name,
                       const FileTensor& wanted) {
  const auto tensor = file.tensor(name);
  if (tensor.sizes() != at::IntArrayRef(wanted.shape)) {
    fail<FileError>(
        "load",
        fmt::format("\"{}\" must have shape ({}) for {}", name, fmt::join(wanted.shape, ", "),
                    wanted.place),
        fmt::format("({}) in \"{}\"", fmt::join(tensor.sizes(), ", "), file.path().string()),
        "The adapter was made for another model, or its config for another adapter.");
  }
  if (!tensor.is_floating_point()) {
    fail<FileError>("load", fmt::format("\"{}\" must hold floating-point numbers", name),
                    c10::toString(tensor.scalar_type()));
  }
  if (!at::isfinite(tensor).all().item<bool>()) {
    fail<FileError>("load", fmt::format("\"{}\" must be finite", name), "NaN or Inf");
  }
  return tensor.view(wanted.tensor.sizes());
}

/// Copies the file's tensors into the adapter's: all of them, and no others.
void read_tensors(const SafetensorsFile& file, const NamedAdapter& adapter) {
  auto names = names_by_key(file, adapter.name);
  for (const auto& wanted : file_tensors(adapter)) {
    auto found = names.find(wanted.name);
    if (found == names.end() && wanted.name.ends_with(".base_layer.bias")) {
      auto plain = wanted.name;
      found = names.find(plain.erase(plain.rfind(".base_layer"), std::strlen(".base_layer")));
    }
    if (found == names.end()) {
      fail<FileError>("load",
                      fmt::format("\"{}\" must hold a tensor \"{}{}\"", file.path().string(),
                                  kKeyPrefix, wanted.name),
                      "none", did_you_mean(wanted.name, file.names()));
    }
    at::Tensor(wanted.tensor.detach()).copy_(read_tensor(file, found->second, wanted));
    names.erase(found);
  }
  if (names.empty()) return;
  fail<FileError>("load",
                  fmt::format("\"{}\" must hold only the tensors of the layers in {}",
                              file.path().string(), kConfigFile),
                  fmt::format("\"{}\" too", names.begin()->second));
}

/// Whether everything the adapter adds is zero.
bool acts_like_base(const Adapter::State& state, const NamedAdapter& adapter,
                    const std::vector<at::Tensor>& initial_magnitudes) {
  for (size_t i = 0; i < adapter.layers.size(); ++i) {
    const auto& layer = adapter.layers[i];
    const bool untouched =
        layer.minus_a.defined()
            ? at::equal(layer.a, layer.minus_a) && at::equal(layer.b, layer.minus_b)
            : !layer.a.ne(0).any().item<bool>() || !layer.b.ne(0).any().item<bool>();
    if (!untouched) return false;
    if (layer.bias.defined() && layer.bias.ne(0).any().item<bool>()) return false;
    if (layer.magnitude.defined() && !at::equal(layer.magnitude, initial_magnitudes[i])) {
      return false;
    }
  }
  for (const auto& whole : adapter.whole) {
    const auto base = effective::without_mark(state.tensors[whole.site].tensor);
    if (!at::equal(whole.value, base)) return false;
  }
  return true;
}

/// What a config asks for must be in the model; where it is not, that is the file's fault.
NamedAdapter make_for_file(Adapter::State& state, const std::string& name, const LoraConfig& config,
                           const Path& file) {
  const StateLock lock(state.mutex);
  if (comes_from_data(config.init)) {
    fail<FileError>("load", "a file must not name an init that takes data's factors off the base",
                    fmt::format("{} in \"{}\"", init_name(config), file.string()),
                    "Save the adapter in PEFT with path_initial_model_for_weight_conversion.");
  }
  // EVA needs data to start, and leaves the base alone: the file's factors are all there is to it.
  auto start = config;
  if (start.init == LoraInit::kEva) start.init = LoraInit::kKaimingUniform;
  try {
    auto adapter = make_adapter(state, name, start, {});
    adapter.config = config;
    return adapter;
  } catch (const ArgumentError& error) {
    throw FileError(fmt::format("{} (in \"{}\")", error.what(), file.string()));
  }
}

struct ReadAdapter {
  NamedAdapter adapter;
  LoadReport report;
};

/// PEFT keeps an adapter that is not called "default" in a subfolder of its name.
Path folder_of(const Path& folder, const std::string& name) {
  const bool nested = !std::filesystem::exists(folder / kConfigFile) &&
                      std::filesystem::exists(folder / name / kConfigFile);
  return nested ? folder / name : folder;
}

ReadAdapter read_adapter(Adapter::State& state, const std::string& name, const Path& given) {
  const auto folder = folder_of(given, name);
  require_file(folder, kConfigFile);
  require_file(folder, kWeightsFile);
  const auto config = read_lora_config(folder / kConfigFile);
  const auto file = SafetensorsFile::open(folder / kWeightsFile);
  const at::NoGradGuard no_grad;
  ReadAdapter read;
  read.adapter = make_for_file(state, name, config, folder / kConfigFile);
  std::vector<at::Tensor> magnitudes;
  for (const auto& layer : read.adapter.layers) {
    magnitudes.push_back(layer.magnitude.defined() ? layer.magnitude.detach().clone()
                                                   : at::Tensor());
  }
  read_tensors(file, read.adapter);
  read.report.found_base = fingerprint_of(state.base);
  const auto expected = file.metadata().find(kFingerprint);
  if (expected != file.metadata().end()) read.report.expected_base = expected->second;
  const StateLock lock(state.mutex);
  read.report.acts_like_base = acts_like_base(state, read.adapter, magnitudes);
  return read;
}

LoadedAdapter load_into(std::vector<ModelLayer> layers, const Path& folder,
                        const std::string& name) {
  auto state = make_state(std::move(layers));
  check_name(*state, name);
  auto [adapter, report] = read_adapter(*state, name, folder);
  freeze(*state);
  state->active = {name};
  put_adapter(*state, std::move(adapter));
  return {Adapter(std::move(state)), std::move(report)};
}

}  // namespace

void Adapter::save(const Path& folder, const SaveOptions& options) const {
  const StateLock lock(state_->mutex);
  if (merged()) {
    fail<TensorError>("save", "the adapter must not be merged", "one that is merged",
                      "Unmerge it first.");
  }
  if (!options.force) require_new(folder);
  const auto adapter = form_for_file(state_->adapter(options.adapter), options.plain_form);
  std::vector<SafetensorsEntry> entries;
  for (const auto& tensor : file_tensors(adapter)) {
    entries.push_back({kKeyPrefix + tensor.name, tensor.tensor.detach().reshape(tensor.shape)});
  }
  const auto config = to_peft_json(adapter.config, targets_of(adapter, options.base_model));
  FileGroup files;
  write_safetensors(files.open(folder / kWeightsFile), entries,
                    {{"format", "pt"}, {kFingerprint, fingerprint_of(state_->base)}});
  files.add(folder / kConfigFile, config.dump(2) + "\n");
  files.commit();
}

LoadReport Adapter::load(const std::string& name, const Path& folder, bool replace) {
  const auto require_possible = [&] {
    const auto existing = names();
    const bool exists = std::find(existing.begin(), existing.end(), name) != existing.end();
    if (!(replace && exists)) check_name(*state_, name);
    if (!exists || !state_->adapter(name).merged) return;
    fail<TensorError>("load", "the adapter to replace must not be merged",
                      fmt::format("\"{}\", which is", name), "Unmerge it first.");
  };
  {
    const StateLock lock(state_->mutex);
    require_possible();
  }
  // The files are read without the lock, so that scopes of other threads begin meanwhile.
  auto [adapter, report] = read_adapter(*state_, name, folder);
  const StateLock lock(state_->mutex);
  require_possible();
  put_adapter(*state_, std::move(adapter));
  return report;
}

LoadedAdapter load_adapter(torch::nn::Module& model, const Path& folder, const std::string& name) {
  return load_into(layers_of(model), folder, name);
}

LoadedAdapter load_adapter(torch::jit::Module& model, const Path& folder, const std::string& name) {
  prepare_script();
  return load_into(layers_of(model), folder, name);
}

}  // namespace lowrank
