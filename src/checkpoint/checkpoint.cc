#include <fmt/format.h>
#include <lowrank/checkpoint/checkpoint.h>
#include <lowrank/error.h>
#include <lowrank/io/json.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <system_error>
#include <unordered_map>
#include <utility>

#include "checkpoint/tensor_file.h"

namespace lowrank {
namespace {

namespace fs = std::filesystem;

constexpr const char* kWeights = "model.safetensors";
constexpr const char* kIndex = "model.safetensors.index.json";
constexpr const char* kPickled = "pytorch_model.bin";

/// A shard lies beside its index: another path could name any file.
bool is_file_name(const std::string& name) {
  return fs::path(name).filename() == name && !name.empty() && name != "." && name != ".." &&
         name.find('\0') == std::string::npos;
}

/// The shards that an index names, in the order of their names, and the tensors that it says each
/// holds.
using Shards = std::map<std::string, std::vector<std::string>>;

Shards read_index(const fs::path& file) {
  const auto json = read_json_file(file);
  const auto map = json.is_object() ? json.find("weight_map") : json.end();
  if (!json.is_object() || map == json.end() || !map->is_object() || map->empty()) {
    fail<FileError>("checkpoint",
                    fmt::format("\"{}\" must hold a weight_map of tensors to files", file.string()),
                    json.is_object() && map != json.end() ? map->type_name() : "none");
  }
  Shards shards;
  for (const auto& [name, shard] : map->items()) {
    if (!shard.is_string() || !is_file_name(shard.get<std::string>())) {
      fail<FileError>(
          "checkpoint",
          fmt::format("the file of \"{}\" in \"{}\" must be a file name", name, file.string()),
          shard.dump());
    }
    shards[shard.get<std::string>()].push_back(name);
  }
  return shards;
}

/// The name of a GGUF file in a folder; empty if there is none.
std::string gguf_in(const fs::path& folder) {
  std::error_code none;
  std::string first;
  for (const auto& entry : fs::directory_iterator(folder, none)) {
    const auto name = entry.path().filename().string();
    if (entry.path().extension() == ".gguf" && (first.empty() || name < first)) first = name;
  }
  return first;
}

[[noreturn]] void fail_folder(const fs::path& folder) {
  std::error_code none;
  std::string found = "neither", hint;
  if (fs::exists(folder / kPickled, none)) {
    found = kPickled;
    hint =
        "Convert it: python3 -c \"import torch; from safetensors.torch import save_file; "
        "save_file(torch.load('pytorch_model.bin', map_location='cpu', weights_only=True), "
        "'model.safetensors')\"";
  } else if (const auto name = gguf_in(folder); !name.empty()) {
    found = "\"" + name + "\"";
    hint = "Name the GGUF file itself.";
  }
  fail<FileError>("checkpoint",
                  fmt::format("\"{}\" must hold {} or {}", folder.string(), kWeights, kIndex),
                  found, hint);
}

}  // namespace

struct Checkpoint::State {
  fs::path place;
  bool is_folder = false;
  std::vector<fs::path> files;
  std::vector<std::unique_ptr<TensorFile>> opened;
  std::vector<std::string> names;
  std::unordered_map<std::string, size_t> file_of;

  void add(const fs::path& file) { add(file, open_tensor_file(is_folder ? place / file : place)); }

  void add(const fs::path& file, std::unique_ptr<TensorFile> tensors) {
    files.push_back(file);
    opened.push_back(std::move(tensors));
    for (const auto& name : opened.back()->names()) {
      const auto [before, is_new] = file_of.emplace(name, opened.size() - 1);
      if (!is_new) {
        fail<FileError>(
            "checkpoint", fmt::format("\"{}\" must be in one file of \"{}\"", name, place.string()),
            fmt::format("\"{}\" and \"{}\"", files[before->second].string(), file.string()));
      }
      names.push_back(name);
    }
  }

  const TensorFile& file_with(const std::string& name) const {
    const auto found = file_of.find(name);
    if (found != file_of.end()) return *opened[found->second];
    fail<FileError>("checkpoint",
                    fmt::format("\"{}\" must hold a tensor of this name", place.string()),
                    fmt::format("\"{}\"", name), did_you_mean(name, names));
  }

  void require_all(const Shards& shards) const {
    size_t listed = 0;
    for (const auto& [shard, own] : shards) {
      listed += own.size();
      for (const auto& name : own) {
        const auto found = file_of.find(name);
        if (found != file_of.end() && files[found->second] == shard) continue;
        fail<FileError>("checkpoint",
                        fmt::format("\"{}\" must be in \"{}\", as {} says", name,
                                    (place / shard).string(), kIndex),
                        found == file_of.end() ? "no such tensor"
                                               : "\"" + files[found->second].string() + "\"");
      }
    }
    if (listed == names.size()) return;
    fail<FileError>("checkpoint",
                    fmt::format("{} in \"{}\" must list all tensors", kIndex, place.string()),
                    fmt::format("{} of {}", listed, names.size()));
  }
};

Checkpoint::Checkpoint(std::shared_ptr<const State> state) : state_(std::move(state)) {}

Checkpoint Checkpoint::open(const fs::path& place) {
  auto state = std::make_shared<State>();
  state->place = place;
  std::error_code none;
  state->is_folder = fs::is_directory(place, none);
  if (!state->is_folder) {
    state->add(place.filename());
  } else if (fs::exists(place / kWeights, none)) {
    state->add(kWeights);  // first, as transformers does
  } else if (fs::exists(place / kIndex, none)) {
    const auto shards = read_index(place / kIndex);
    for (const auto& [shard, names] : shards) state->add(shard);
    state->require_all(shards);
  } else {
    fail_folder(place);
  }
  return Checkpoint(std::move(state));
}

Checkpoint Checkpoint::from_tensors(
    const fs::path& place, const std::vector<std::pair<std::string, at::Tensor>>& tensors) {
  auto state = std::make_shared<State>();
  state->place = place;
  state->add(place.filename(), tensors_in_memory(tensors));
  return Checkpoint(std::move(state));
}

const std::vector<std::string>& Checkpoint::names() const { return state_->names; }
bool Checkpoint::contains(const std::string& name) const { return state_->file_of.contains(name); }

at::Tensor Checkpoint::tensor(const std::string& name) const {
  return state_->file_with(name).tensor(name);
}

StoredTensor Checkpoint::stored(const std::string& name) const {
  return state_->file_with(name).stored(name);
}

const fs::path& Checkpoint::place() const { return state_->place; }
bool Checkpoint::is_folder() const { return state_->is_folder; }
bool Checkpoint::is_safetensors() const {
  return std::all_of(state_->opened.begin(), state_->opened.end(),
                     [](const auto& file) { return file->is_safetensors(); });
}
const std::vector<fs::path>& Checkpoint::files() const { return state_->files; }
const std::vector<std::string>& Checkpoint::names_in(size_t file) const {
  return state_->opened.at(file)->names();
}
const std::map<std::string, std::string>& Checkpoint::metadata_of(size_t file) const {
  return state_->opened.at(file)->metadata();
}

void require_unscaled(const Checkpoint& checkpoint, const std::string& name,
                      const char* operation) {
  const auto dot = name.rfind('.');
  const auto module = dot == std::string::npos ? std::string() : name.substr(0, dot + 1);
  for (const auto& scale : {name + "_scale_inv", name + "_scale", module + "scale_weight"}) {
    if (!checkpoint.contains(scale)) continue;
    fail<FileError>(operation, fmt::format("\"{}\" must be a weight by itself", name),
                    fmt::format("\"{}\", which scales it", scale),
                    "Convert the model to bfloat16 first.");
  }
}

std::vector<fs::path> files_of(const Checkpoint& checkpoint) {
  if (!checkpoint.is_folder()) return {checkpoint.place()};
  std::vector<fs::path> files = {checkpoint.place()};
  for (const auto& file : checkpoint.files()) files.push_back(checkpoint.place() / file);
  return files;
}

}  // namespace lowrank
