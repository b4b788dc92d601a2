#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <fmt/ranges.h>
#include <lowrank/adapter/adapter.h>
#include <lowrank/adapter/config_fields.h>
#include <lowrank/error.h>
#include <lowrank/io/safetensors.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

#include "adapter/config/name_matching.h"
#include "adapter/init/initialise.h"
#include "adapter/peft/adapter_config.h"
#include "adapter/peft/keys.h"
#include "adapter/state.h"
#include "adapter/targets/target_choice.h"
#include "effective/weight_reading.h"

// Loads adapters from disk: PEFT's folder of adapter_config.json and adapter_model.safetensors
// (utils/save_and_load.py), with the base's fingerprint in the safetensors metadata.
namespace lowrank {
namespace {

using Path = std::filesystem::path;

/// Returns whose adapter a folder without PEFT's files holds, as a hint; empty if it is not known.
std::string other_format_in(const Path& folder) {
  std::error_code none;
  if (std::filesystem::exists(folder / "adapters.safetensors", none)) {
    return "It holds adapters.safetensors, an adapter of mlx-lm: convert it to PEFT's files first.";
  }
  for (const auto& entry : std::filesystem::directory_iterator(folder, none)) {
    if (entry.path().extension() != ".safetensors") continue;
    try {
      const auto file = SafetensorsFile::open(entry.path());
      const auto is_of_kohya = [](const std::string& key) {
        return key.starts_with("lora_") && key.find(".lora_down.") != std::string::npos;
      };
      if (std::any_of(file.names().begin(), file.names().end(), is_of_kohya)) {
        return fmt::format(
            "It holds {}, an adapter of kohya's sd-scripts: convert it to PEFT's files "
            "first.",
            entry.path().filename().string());
      }
    } catch (const FileError&) {  // not a file of ours to complain about
    }
  }
  return "";
}

/// Returns why a file may lack a tensor of this name, as a hint.
std::string hint_for_missing(const SafetensorsFile& file, const std::string& wanted) {
  const std::array<std::pair<const char*, const char*>, 2> wrappers = {
      {{"_orig_mod.", "torch.compile"}, {"module.", "DataParallel"}}};
  for (const auto& [prefix, origin] : wrappers) {
    const auto wrapped = std::string(kKeyPrefix) + prefix;
    const auto has_prefix = [&wrapped, bare = std::string(prefix)](const std::string& name) {
      return name.starts_with(bare) || name.starts_with(wrapped);
    };
    if (std::any_of(file.names().begin(), file.names().end(), has_prefix)) {
      return fmt::format(
          "The names in the file begin with \"{}\", which {} puts before them: save the "
          "model that it wraps.",
          prefix, origin);
    }
  }
  return did_you_mean(wanted, file.names());
}

void require_file(const Path& folder, const char* name) {
  if (std::filesystem::exists(folder / name)) return;
  const bool pickle = std::filesystem::exists(folder / "adapter_model.bin");
  fail<FileError>(
      "load", fmt::format("an adapter folder must hold {}", name),
      fmt::format("{} \"{}\"", std::filesystem::exists(folder) ? "none in" : "no folder",
                  folder.string()),
      pickle && std::string(name) == kAdapterWeightsFile
          ? "Its adapter_model.bin is a pickle, which is never executed here; convert it: python3 "
            "-c \"import torch, safetensors.torch as s; s.save_file(torch.load('adapter_model.bin',"
            " weights_only=True), 'adapter_model.safetensors')\"."
          : other_format_in(folder));
}

/// Reads a tensor of the file and checks it against what the model's layer needs.
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
  if (tensor.is_floating_point() != wanted.tensor.is_floating_point()) {
    fail<FileError>("load",
                    fmt::format("\"{}\" must hold {} numbers", name,
                                wanted.tensor.is_floating_point() ? "floating-point" : "whole"),
                    c10::toString(tensor.scalar_type()));
  }
  if (!at::isfinite(tensor).all().item<bool>()) {
    fail<FileError>("load", fmt::format("\"{}\" must be finite", name), "NaN or Inf");
  }
  return tensor.view(wanted.tensor.sizes());
}

/// Returns the model's weight at this path, or the buffer if it belongs to a module that the config
/// saves in full; undefined if it is neither.
at::Tensor find_in_base(const Adapter::State& state, const LoraConfig& config,
                        const std::string& path) {
  if (path.ends_with(".weight")) {
    for (const auto& parameter : state.base) {
      if (parameter.name == path) return effective::stored_weight(parameter.tensor);
    }
  }
  for (const auto& layer : state.model) {
    if (!is_saved_whole(layer.name, config.modules_to_save)) continue;
    for (const auto& [name, buffer] : layer.buffers) {
      if (dotted_path(layer.name, name) == path) return buffer;
    }
  }
  return {};
}

/// Returns whether a tensor of the file belongs to the base. If an embedding is a target, PEFT also
/// writes the weights of the model's input and output embeddings (save_embedding_layers), and for
/// modules_to_save it writes the buffers. Throws FileError if their values are not those of the
/// model.
bool belongs_to_base(const SafetensorsFile& file, const std::string& key, const std::string& name,
                     const Adapter::State& state, const LoraConfig& config) {
  auto path = key;
  if (const auto at = path.rfind(".base_layer.weight"); at != std::string::npos) {
    path.erase(at, std::strlen(".base_layer"));
  }
  const auto weight = find_in_base(state, config, path);
  if (!weight.defined()) return false;
  const auto tensor = file.tensor(name);
  if (tensor.sizes() == weight.sizes() && at::equal(tensor, weight.cpu().to(tensor.dtype()))) {
    return true;
  }
  fail<FileError>("load",
                  fmt::format("\"{}\" must be the model's \"{}\", because no layer of the config "
                              "trains it",
                              name, path),
                  "other values", "The adapter was made for another model.");
}

/// If a name in target_modules matches nothing, it is the likely reason for tensors too many.
std::string hint_for(const std::vector<UnmatchedEntry>& unmatched, const Adapter::State& state) {
  for (const auto& [field, entry] : unmatched) {
    if (field != "target_modules") continue;
    std::vector<std::string> names;
    for (const auto& layer : state.model) names.push_back(layer.name);
    return fmt::format("The model has no \"{}\", which target_modules names. {}", entry,
                       did_you_mean(entry, with_endings(names)));
  }
  return "";
}

/// Copies the file's tensors into the adapter's. Throws FileError if one is missing or if there are
/// others.
void read_tensors(const SafetensorsFile& file, const NamedAdapter& adapter,
                  const Adapter::State& state, const std::vector<UnmatchedEntry>& unmatched) {
  auto names = names_by_key(file, adapter.name);
  for (const auto& wanted : file_tensors(adapter)) {
    auto found = names.find(wanted.name);
    if (found == names.end() && wanted.name.ends_with(".base_layer.bias")) {
      auto unwrapped = wanted.name;
      found =
          names.find(unwrapped.erase(unwrapped.rfind(".base_layer"), std::strlen(".base_layer")));
    }
    if (found == names.end()) {
      fail<FileError>("load",
                      fmt::format("\"{}\" must hold a tensor \"{}{}\"", file.path().string(),
                                  kKeyPrefix, wanted.name),
                      "none", hint_for_missing(file, wanted.name));
    }
    const at::Tensor tensor = wanted.tensor.detach();
    const auto read = read_tensor(file, found->second, wanted);
    tensor.copy_(read);
    if (tensor.scalar_type() != read.scalar_type() && !at::isfinite(tensor).all().item<bool>()) {
      fail<FileError>("load",
                      fmt::format("\"{}\" must be finite as {}, which the model is kept in",
                                  found->second, c10::toString(tensor.scalar_type())),
                      fmt::format("numbers that only {} holds", c10::toString(read.scalar_type())));
    }
    names.erase(found);
  }
  std::erase_if(names, [&](const auto& item) {
    return belongs_to_base(file, item.first, item.second, state, adapter.config);
  });
  if (names.empty()) return;
  fail<FileError>("load",
                  fmt::format("\"{}\" must hold only the tensors of the layers in {}",
                              file.path().string(), kAdapterConfigFile),
                  fmt::format("\"{}\" too", names.begin()->second), hint_for(unmatched, state));
}

/// Returns whether everything that the adapter adds is zero.
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
    auto base = effective::stored_weight(state.tensors[whole.site].tensor);
    if (whole.rows.defined()) base = base.index_select(0, whole.rows);
    if (!at::equal(whole.value, base)) return false;
  }
  return true;
}

/// Every rank must be a dimension of some tensor in the file, and factors that take much memory
/// must be in the file. This is checked before memory is allocated for them.
void require_ranks(const std::vector<Target>& targets, const SafetensorsFile& file) {
  constexpr int64_t kFew = int64_t{1} << 24;  // the tensors of fewer are named one by one later
  int64_t largest = 0, held = 0, wanted = 0;
  for (const auto& name : file.names()) {
    const auto tensor = file.tensor(name);  // owns the sizes
    held += tensor.numel();
    if (tensor.numel() == 0) continue;  // an empty tensor may have any dimensions
    for (const auto size : tensor.sizes()) largest = std::max(largest, size);
  }
  for (const auto& target : targets) {
    if (target.rank <= largest) continue;
    fail<ArgumentError>("attach", "the rank of a layer must be that of its tensors",
                        fmt::format("rank {} for \"{}\", beside tensors of at most {} rows",
                                    target.rank, target.path(), largest));
  }
  for (const auto& target : targets) wanted += factor_elements(target);
  if (wanted <= std::max(held, kFew)) return;
  fail<ArgumentError>(
      "attach", "the factors of all layers must be in the file",
      fmt::format("{} numbers in \"{}\" for factors of {}", held, file.path().string(), wanted));
}

/// Makes the adapter that a file's config asks for. If the config does not fit the model, this
/// throws FileError, which names the file.
NamedAdapter make_for_file(Adapter::State& state, const std::string& name, const LoraConfig& config,
                           const Path& path, const SafetensorsFile& file,
                           std::vector<UnmatchedEntry>& unmatched) {
  const StateLock lock(state.mutex);
  if (subtracts_data_factors(config.init)) {
    fail<FileError>(
        "load", "a file must not name an init that changes the base with factors made from data",
        fmt::format("{} in \"{}\"", init_name(config), path.string()),
        "Save the adapter in PEFT with path_initial_model_for_weight_conversion.");
  }
  // EVA needs data to start, but leaves the base as it is, so the factors in the file are enough.
  auto start = config;
  if (start.init == LoraInit::kEva) start.init = LoraInit::kKaimingUniform;
  start.lora_dropout = 0;  // layers that cannot apply it are refused when they are trained
  try {
    require_ranks(find_targets(state.model, start, &unmatched), file);
    unmatched.clear();
    auto adapter = make_adapter(state, name, start, {}, &unmatched);
    adapter.config = config;
    return adapter;
  } catch (const ArgumentError& error) {
    throw FileError(fmt::format("{} (in \"{}\")", error.what(), path.string()));
  }
}

struct ReadAdapter {
  NamedAdapter adapter;
  LoadReport report;
};

/// PEFT keeps an adapter that is not called "default" in a subfolder of its name.
Path folder_of(const Path& folder, const std::string& name) {
  const bool nested = !std::filesystem::exists(folder / kAdapterConfigFile) &&
                      std::filesystem::exists(folder / name / kAdapterConfigFile);
  return nested ? folder / name : folder;
}

ReadAdapter read_adapter(Adapter::State& state, const std::string& name, const Path& given) {
  const auto folder = folder_of(given, name);
  require_file(folder, kAdapterConfigFile);
  require_file(folder, kAdapterWeightsFile);
  const auto config = read_lora_config(folder / kAdapterConfigFile);
  const auto file = SafetensorsFile::open(folder / kAdapterWeightsFile);
  const at::NoGradGuard no_grad;
  ReadAdapter read;
  read.adapter =
      make_for_file(state, name, config, folder / kAdapterConfigFile, file, read.report.unmatched);
  std::vector<at::Tensor> magnitudes;
  for (const auto& layer : read.adapter.layers) {
    magnitudes.push_back(layer.magnitude.defined() ? layer.magnitude.detach().clone()
                                                   : at::Tensor());
  }
  read.report.config_matches = config_matches(file, config);
  try {
    read_tensors(file, read.adapter, state, read.report.unmatched);
  } catch (const FileError& error) {
    if (read.report.config_matches) throw;
    throw FileError(
        fmt::format("{} The {} beside the tensors is not the one that was saved with them: it was "
                    "edited, or a command was killed while it replaced the adapter.",
                    error.what(), kAdapterConfigFile));
  }
  read.report.unknown_fields = unknown_fields(config);
  const auto found = fingerprints_of(state);
  read.report.found_base = found.whole;
  read.report.found_parameters = found.of_parameters;
  const auto expected = file.metadata().find(kFingerprintKey);
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
  return {attach_first(state, std::move(adapter)), std::move(report)};
}

}  // namespace

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
  // The files are read without the lock, so that other threads can begin scopes meanwhile.
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
