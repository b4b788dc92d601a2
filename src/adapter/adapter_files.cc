#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <fmt/ranges.h>
#include <lowrank/adapter/adapter.h>
#include <lowrank/error.h>
#include <lowrank/io/atomic_file.h>
#include <lowrank/io/safetensors.h>
#include <torch/nn/module.h>

#include <optional>
#include <set>

#include "adapter/peft_config.h"
#include "adapter/state.h"
#include "adapter/targets.h"

// An adapter on disk: PEFT's folder of adapter_config.json and adapter_model.safetensors
// (utils/save_and_load.py), with the base's fingerprint in the safetensors metadata.
namespace lowrank {
namespace {

constexpr const char* kConfigFile = "adapter_config.json";
constexpr const char* kWeightsFile = "adapter_model.safetensors";
constexpr const char* kFingerprint = "lowrank.base_sha256";

/// "base_model.model.linear1.lora_A.weight"; a model that is itself the layer has no path.
std::string key(const std::string& layer, const char* factor) {
  return fmt::format("base_model.model.{}{}{}.weight", layer, layer.empty() ? "" : ".", factor);
}

struct LayerFile {
  Target target;
  at::Tensor a, b;
};

/// A factor of the file, checked against the layer it is for.
at::Tensor read_factor(const SafetensorsFile& file, const std::string& name,
                       at::IntArrayRef required, const Target& target) {
  if (!file.contains(name)) {
    fail<FileError>("load",
                    fmt::format("\"{}\" must hold a tensor \"{}\"", file.path().string(), name),
                    "none");
  }
  auto tensor = file.tensor(name);
  if (tensor.sizes() != required) {
    fail<FileError>(
        "load",
        fmt::format("\"{}\" must have shape ({}) for the layer \"{}\" of {} inputs and {} outputs",
                    name, fmt::join(required, ", "), target.layer, target.weight.size(1),
                    target.weight.size(0)),
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
  return tensor;
}

std::vector<LayerFile> read_layers(const SafetensorsFile& file,
                                   const std::vector<Target>& targets) {
  std::vector<LayerFile> layers;
  std::set<std::string> expected;
  for (const auto& target : targets) {
    const auto a_key = key(target.layer, "lora_A");
    const auto b_key = key(target.layer, "lora_B");
    expected.insert({a_key, b_key});
    layers.push_back({target,
                      read_factor(file, a_key, {target.rank, target.weight.size(1)}, target),
                      read_factor(file, b_key, {target.weight.size(0), target.rank}, target)});
  }
  for (const auto& name : file.names()) {
    if (expected.contains(name)) continue;
    fail<FileError>("load",
                    fmt::format("\"{}\" must hold only the factors of the layers in {}",
                                file.path().string(), kConfigFile),
                    fmt::format("\"{}\" too", name));
  }
  return layers;
}

/// A file's config is the file's business: what matches nothing is a FileError.
template <class Work>
auto as_file_error(const std::filesystem::path& file, const Work& work) {
  try {
    return work();
  } catch (const ArgumentError& error) {
    throw FileError(fmt::format("{} (in \"{}\")", error.what(), file.string()));
  }
}

void require_file(const std::filesystem::path& folder, const char* name) {
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

}  // namespace

void Adapter::save(const std::filesystem::path& folder, const SaveOptions& options) const {
  if (merged()) {
    fail<TensorError>("save", "the adapter must not be merged", "one that is merged",
                      "Unmerge it first.");
  }
  for (const char* name : {kConfigFile, kWeightsFile}) {
    if (!options.force && std::filesystem::exists(folder / name)) {
      fail<FileError>("save", fmt::format("\"{}\" must not hold an adapter yet", folder.string()),
                      fmt::format("a {}", name), "Use force to replace it.");
    }
  }
  std::vector<SafetensorsEntry> entries;
  std::vector<std::string> names;
  for (const auto& layer : state_->layers) {
    entries.push_back({key(layer.name, "lora_A"), layer.factors->a.detach()});
    entries.push_back({key(layer.name, "lora_B"), layer.factors->b.detach()});
    names.push_back(layer.name);
  }
  const auto config =
      to_peft_json(state_->config, {.modules = names, .base_model = options.base_model});
  FileGroup files;
  write_safetensors(files.open(folder / kWeightsFile), entries,
                    {{"format", "pt"}, {kFingerprint, fingerprint_of(state_->base)}});
  files.add(folder / kConfigFile, config.dump(2) + "\n");
  files.commit();
}

LoadedAdapter load_adapter(torch::nn::Module& model, const std::filesystem::path& folder) {
  require_file(folder, kConfigFile);
  require_file(folder, kWeightsFile);
  const auto config = read_lora_config(folder / kConfigFile);
  const auto file = SafetensorsFile::open(folder / kWeightsFile);
  const auto targets =
      as_file_error(folder / kConfigFile, [&] { return find_targets(layers_of(model), config); });
  const auto layers = read_layers(file, targets);

  LoadReport report;
  report.found_base = base_fingerprint(model);
  const auto expected = file.metadata().find(kFingerprint);
  if (expected != file.metadata().end()) report.expected_base = expected->second;

  auto adapter = as_file_error(folder / kConfigFile, [&] { return attach(model, config); });
  const at::NoGradGuard no_grad;
  const auto attached = adapter.layers();
  report.acts_like_base = true;
  for (size_t i = 0; i < layers.size(); ++i) {
    attached[i].a.copy_(layers[i].a);
    attached[i].b.copy_(layers[i].b);
    if (layers[i].b.ne(0).any().item<bool>()) report.acts_like_base = false;
  }
  return {std::move(adapter), std::move(report)};
}

}  // namespace lowrank
