#include "app/models/model_folder.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <fmt/ranges.h>
#include <lowrank/error.h>
#include <lowrank/io/atomic_file.h>
#include <lowrank/io/file_bytes.h>
#include <lowrank/io/json.h>
#include <lowrank/io/safetensors.h>
#include <lowrank/io/sha256.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <system_error>

#include "app/terminal/message.h"

namespace lowrank::app {
namespace {

constexpr const char* kConfigFile = "config.json";
constexpr const char* kWeightsFile = "model.safetensors";
/// The key of the config's SHA-256 in the metadata of the weights.
constexpr const char* kConfigKey = "lowrank.config_sha256";

using Path = std::filesystem::path;

[[noreturn]] void fail_field(const Path& file, const std::string& required,
                             const std::string& found) {
  fail<FileError>("load", fmt::format("\"{}\" must hold {}", file.string(), required), found);
}

const nlohmann::json& field(const nlohmann::json& config, const char* name, const Path& file) {
  const auto it = config.find(name);
  if (it == config.end()) fail_field(file, name, "none");
  return *it;
}

std::vector<int64_t> read_sizes(const nlohmann::json& config, const Path& file) {
  const auto& json = field(config, "sizes", file);
  const std::string required = "sizes, a list of at least two whole numbers of 1 to 1000000";
  if (!json.is_array() || json.size() < 2) fail_field(file, required, json.dump());
  std::vector<int64_t> sizes;
  for (const auto& size : json) {
    if (!size.is_number_integer() || size < 1 || size > 1'000'000) {
      fail_field(file, required, json.dump());
    }
    sizes.push_back(size.get<int64_t>());
  }
  return sizes;
}

nlohmann::json parse_config(const std::string& text, const Path& file) {
  auto config = parse_json(text, fmt::format("\"{}\"", file.string()));
  if (!config.is_object()) fail_field(file, "a JSON object", config.type_name());
  const auto& type = field(config, "model_type", file);
  if (type != "mlp") fail_field(file, "model_type \"mlp\"", type.dump());
  const auto activation = config.find("activation");
  if (activation != config.end() && *activation != "relu") {
    fail_field(file, "activation \"relu\"", activation->dump());
  }
  return config;
}

/// Checks the tensors of an MLP of these sizes, before memory is allocated for the model.
void check_tensors(const SafetensorsFile& file, const std::vector<int64_t>& sizes) {
  for (size_t i = 1; i < sizes.size(); ++i) {
    for (const auto& [name, shape] :
         {std::pair(fmt::format("linear{}.weight", i), std::vector{sizes[i], sizes[i - 1]}),
          std::pair(fmt::format("linear{}.bias", i), std::vector{sizes[i]})}) {
      if (!file.contains(name)) {
        fail_field(file.path(), fmt::format("the tensor \"{}\"", name), "none");
      }
      const auto tensor = file.tensor(name);
      if (tensor.sizes() != at::IntArrayRef(shape) || !tensor.is_floating_point()) {
        fail_field(file.path(),
                   fmt::format("\"{}\" as floating-point numbers of shape ({}), as {} says", name,
                               fmt::join(shape, ", "), kConfigFile),
                   fmt::format("{} of shape ({})", c10::toString(tensor.scalar_type()),
                               fmt::join(tensor.sizes(), ", ")));
      }
      if (!at::isfinite(tensor).all().item<bool>()) {
        fail_field(file.path(), fmt::format("finite numbers in \"{}\"", name), "NaN or Inf");
      }
    }
  }
  const size_t expected = 2 * (sizes.size() - 1);
  if (file.names().size() != expected) {
    fail_field(file.path(), fmt::format("{} tensors, as {} says", expected, kConfigFile),
               fmt::format("{}: {}", file.names().size(), list_names(file.names())));
  }
}

/// Throws FileError if the path given for a base is an adapter's folder or a file.
void require_model(const Path& folder) {
  std::error_code none;
  const bool is_adapter = std::filesystem::exists(folder / "adapter_config.json", none) &&
                          !std::filesystem::exists(folder / kConfigFile, none);
  if (!is_adapter && !std::filesystem::is_regular_file(folder, none)) return;
  fail<FileError>("load",
                  fmt::format("\"{}\" must be the folder of a model, with {} and {}",
                              folder.string(), kConfigFile, kWeightsFile),
                  is_adapter ? "the folder of an adapter" : "a file",
                  is_adapter ? "Give the base here, and the adapter as --adapter." : "");
}

/// Returns the dtype that can hold the numbers of every tensor.
at::ScalarType widest_dtype(const SafetensorsFile& file) {
  auto dtype = file.tensor(file.names().front()).scalar_type();
  for (const auto& name : file.names()) {
    dtype = c10::promoteTypes(dtype, file.tensor(name).scalar_type());
  }
  return dtype;
}

}  // namespace

bool is_config_of(const std::string& config, const std::map<std::string, std::string>& metadata) {
  const auto saved_with = metadata.find(kConfigKey);
  return saved_with == metadata.end() || saved_with->second == sha256_hex(std::string_view(config));
}

void warn_of_another_config(const Path& config_file) {
  print_message(fmt::format(
      "warning: \"{}\" is not the one that was saved with the weights beside it: it was "
      "edited, or a command was killed while it replaced the model.",
      config_file.string()));
}

void save_mlp(const TrainedMlp& trained, const Path& folder,
              const std::vector<std::pair<std::string, std::string>>& further_files) {
  std::vector<SafetensorsEntry> entries;
  for (const auto& item : trained.model->named_parameters()) {
    entries.push_back({item.key(), item.value().detach()});
  }
  nlohmann::ordered_json config;
  config["model_type"] = "mlp";
  config["sizes"] = trained.model->options().sizes;
  config["activation"] = "relu";
  add_preparation(config, trained.preparation);
  const auto text = to_text(config) + "\n";
  FileGroup files;
  write_safetensors(files.open(folder / kWeightsFile), entries,
                    {{"format", "pt"}, {kConfigKey, sha256_hex(std::string_view(text))}});
  files.add(folder / kConfigFile, text);
  for (const auto& [name, content] : further_files) files.add(folder / name, content);
  files.commit();
}

TrainedMlp load_mlp(const Path& folder) {
  const auto config_file = folder / kConfigFile;
  require_model(folder);
  const auto text = read_file(config_file, kLongestJson);
  const auto config = parse_config(text, config_file);
  const auto sizes = read_sizes(config, config_file);
  const auto file = SafetensorsFile::open(folder / kWeightsFile);
  if (!is_config_of(text, file.metadata())) warn_of_another_config(config_file);
  check_tensors(file, sizes);
  auto preparation = read_preparation(config, sizes.front(), sizes.back(), config_file);
  Mlp model(MlpOptions{.sizes = sizes});
  model->to(widest_dtype(file));
  const at::NoGradGuard no_grad;
  for (auto& item : model->named_parameters()) item.value().copy_(file.tensor(item.key()));
  model->eval();
  return {model, std::move(preparation)};
}

}  // namespace lowrank::app
