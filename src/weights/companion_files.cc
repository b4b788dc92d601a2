#include "weights/companion_files.h"

#include <fmt/format.h>
#include <lowrank/error.h>
#include <lowrank/io/file_bytes.h>
#include <lowrank/io/json.h>
#include <lowrank/io/sha256.h>
#include <lowrank/weights/report.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <system_error>

#include "weights/resume_identity.h"

namespace lowrank {
namespace {

namespace fs = std::filesystem;

constexpr uint64_t kSmallFile = uint64_t{64} << 20;
constexpr const char* kConfigFile = "config.json";
constexpr const char* kIndexFile = "model.safetensors.index.json";

/// The config of a model whose head is a matrix of its own.
std::string untied_config(const std::string& text, const fs::path& path) {
  auto json = parse_ordered_json(text, fmt::format("\"{}\"", path.string()));
  json["tie_word_embeddings"] = false;
  return json.dump(2) + "\n";
}

/// The index with the head beside the embeddings, and the size of all tensors.
std::string index_with_head(const std::string& text, const UntiedBase& base, bool unties,
                            const fs::path& path) {
  auto json = parse_json(text, fmt::format("\"{}\"", path.string()));
  const auto& head = UntiedBase::head();
  auto& map = json["weight_map"];
  const bool adds_head = unties && !base.checkpoint().contains(head);
  if (adds_head && map.contains(base.table())) map[head] = map[base.table()];
  uint64_t bytes = 0;
  for (const auto& name : base.checkpoint().names()) bytes += base.stored(name).bytes;
  if (adds_head) bytes += base.stored(head).bytes;
  auto& metadata = json["metadata"];
  if (!metadata.is_object()) metadata = nlohmann::json::object();
  metadata["total_size"] = bytes;
  return json.dump(2) + "\n";
}

/// What `lowrank` has written about the run that made the base.
bool is_record(const std::string& name) {
  return name == kReportFile || name == "training.json" || name == "history.json" ||
         name == "figures.json" || name == "report.html";
}

bool is_weights_file(const fs::path& file) {
  const auto extension = file.extension();
  return extension == ".safetensors" || extension == ".bin" || extension == ".pt" ||
         extension == ".gguf";
}

}  // namespace

std::vector<SmallFile> other_files(const UntiedBase& base, bool unties) {
  std::vector<SmallFile> files;
  const auto& folder = base.checkpoint().place();
  if (!base.checkpoint().is_folder()) return files;
  const bool is_sharded = base.checkpoint().files()[0] != "model.safetensors";
  for (const auto& entry : fs::directory_iterator(folder)) {
    std::error_code none;
    const auto& path = entry.path();
    const auto name = path.filename().string();
    const auto& weights = base.checkpoint().files();
    if (std::find(weights.begin(), weights.end(), name) != weights.end()) continue;
    if (is_weights_file(path) || name.starts_with('.') || !entry.is_regular_file(none)) continue;
    if (entry.file_size(none) > kSmallFile || is_record(name)) continue;
    auto content = read_file(path, kSmallFile);
    if (name == kConfigFile && unties) content = untied_config(content, path);
    if (name == kIndexFile && is_sharded) {
      content = index_with_head(content, base, unties, path);
    }
    files.push_back({name, std::move(content)});
  }
  std::sort(files.begin(), files.end(),
            [](const auto& one, const auto& other) { return one.name < other.name; });
  return files;
}

void require_own_names(const Checkpoint& base) {
  for (const auto& file : base.files()) {
    if (!base.is_folder() || !file.extension().string().starts_with(".json")) continue;
    fail<FileError>("merge",
                    fmt::format("the shards of \"{}\" must not have the names of other files",
                                base.place().string()),
                    fmt::format("\"{}\"", file.string()));
  }
}

void require_free(const fs::path& out, bool is_folder, const std::set<std::string>& names) {
  std::error_code none;
  const auto require = [&](const fs::path& file) {
    if (!fs::exists(file, none)) return;
    fail<FileError>("merge", fmt::format("\"{}\" must not exist yet", file.string()), "a file");
  };
  if (!is_folder) return require(out);
  for (const auto& name : names) require(out / name);
}

std::set<std::string> weights_in(const fs::path& folder) {
  std::set<std::string> names;
  try {
    const auto old = Checkpoint::open(folder);
    if (!old.is_folder()) return names;
    for (const auto& file : old.files()) names.insert(file.string());
    names.insert(kIndexFile);
  } catch (const Error&) {
    // There is no checkpoint, or none that can be read: nothing is known to be an old weight.
    return {};
  }
  return names;
}

std::string identity_of(const Checkpoint& base, const std::vector<fs::path>& adapters,
                        const CheckpointMergeOptions& options) {
  nlohmann::ordered_json json = {
      {"subtract", options.subtract}, {"prefix", options.prefix}, {"base", file_identity(base)}};
  for (const auto& folder : adapters) {
    json["adapters"].push_back({sha256_of_file(folder / "adapter_config.json"),
                                sha256_of_file(folder / "adapter_model.safetensors")});
  }
  return sha256_hex(to_text(json, -1));
}

}  // namespace lowrank
