#include "train/training_state_file.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <c10/util/Exception.h>
#include <fmt/format.h>
#include <lowrank/error.h>
#include <lowrank/io/json.h>
#include <lowrank/io/json_difference.h>
#include <lowrank/io/safetensors.h>

#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "io/arrays/tensor_like.h"

namespace lowrank {

NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(Counters, step, loss_sum, loss_count, last_mean, point_sum,
                                   seconds, best_step, best_loss)

namespace {

constexpr const char* kIdentity = "lowrank.identity";
constexpr const char* kCounters = "lowrank.counters";
constexpr const char* kHistory = "lowrank.history";
constexpr const char* kGenerator = "generator";

SafetensorsFile open_checkpoint(const std::filesystem::path& path) {
  if (!std::filesystem::exists(path)) {
    fail<FileError>("resume", fmt::format("\"{}\" must exist", path.string()), "no such file",
                    "A finished run keeps no checkpoint, so there is nothing to resume.");
  }
  return SafetensorsFile::open(path);
}

const std::string& metadata(const SafetensorsFile& file, const char* key) {
  const auto it = file.metadata().find(key);
  if (it == file.metadata().end()) {
    fail<FileError>("resume", fmt::format("\"{}\" must be a checkpoint", file.path().string()),
                    fmt::format("a file without {} in its metadata", key));
  }
  return it->second;
}

/// Returns an identity as JSON, or nullopt if it is some other text.
std::optional<nlohmann::json> as_object(const std::string& identity) {
  try {
    auto json = parse_json(identity, "the identity of a checkpoint", "resume");
    if (json.is_object()) return json;
  } catch (const FileError&) {  // any text may be an identity
  }
  return std::nullopt;
}

/// Throws FileError unless the file was written with the identity `wanted`. Two JSON objects are
/// the same if their fields are; otherwise the message names the first one that differs.
void require_identity(const SafetensorsFile& file, const std::string& wanted) {
  const auto& found = metadata(file, kIdentity);
  if (found == wanted) return;
  const auto path = file.path().string();
  const auto held = as_object(found), given = as_object(wanted);
  if (held && given) return require_same_options<FileError>(*held, *given, path);
  fail<FileError>("resume", fmt::format("\"{}\" must be a checkpoint of this run", path),
                  fmt::format("that of \"{}\"", found.substr(0, 120)),
                  "Give the options that the run was started with.");
}

/// Returns whether all counts are whole numbers. The conversion alone would turn 70.5 into 70.
bool has_whole_counts(const nlohmann::json& json) {
  return json.at("step").is_number_integer() && json.at("loss_count").is_number_integer() &&
         json.at("best_step").is_number_integer();
}

Counters read_counters(const SafetensorsFile& file) {
  const auto json = parse_json(metadata(file, kCounters), "the counters of a checkpoint", "resume");
  try {
    if (has_whole_counts(json)) return json.get<Counters>();
  } catch (const nlohmann::json::exception&) {  // a field that is missing or not a number
  }
  fail<FileError>("resume", fmt::format("\"{}\" must hold a run's counters", file.path().string()),
                  json.dump().substr(0, 80));
}

TrainHistory read_history(const SafetensorsFile& file) {
  const auto json =
      parse_ordered_json(metadata(file, kHistory), "the history of a checkpoint", "resume");
  try {
    return history_from_json(json);
  } catch (const nlohmann::json::exception&) {
    fail<FileError>("resume", fmt::format("\"{}\" must hold a run's history", file.path().string()),
                    json.dump().substr(0, 80));
  }
}

}  // namespace

at::Tensor generator_state(at::Device device) {
  return at::globalContext().defaultGenerator(device).get_state();
}

void restore_generator(at::Device device, const at::Tensor& state) {
  auto generator = at::globalContext().defaultGenerator(device);
  try {
    generator.set_state(state);
  } catch (const c10::Error& error) {
    const std::string reason = error.what_without_backtrace();
    fail<FileError>("resume", "the checkpoint must hold the state of LibTorch's generator",
                    reason.substr(0, reason.find('\n')),
                    "Another version of LibTorch may have written it.");
  }
}

void write_checkpoint(const std::filesystem::path& path, const std::string& identity,
                      const std::vector<NamedParameter>& parameters, const Stepper& optimizer,
                      const TrainingState& state) {
  std::vector<SafetensorsEntry> entries;
  std::map<std::string, std::string> metadata = {{kIdentity, identity},
                                                 {kCounters, nlohmann::json(state.counters).dump()},
                                                 {kHistory, to_json(state.history).dump()}};
  for (size_t i = 0; i < parameters.size(); ++i) {
    const auto& [name, tensor, rate] = parameters[i];
    entries.push_back({"parameter." + name, tensor.detach()});
    if (!state.best.empty()) entries.push_back({"best." + name, state.best[i]});
  }
  if (state.generator.defined()) entries.push_back({kGenerator, state.generator});
  optimizer.write(entries, metadata);
  write_safetensors(path, entries, metadata);
}

TrainingState read_checkpoint(const std::filesystem::path& path, const std::string& identity,
                              const std::vector<NamedParameter>& parameters, Stepper& optimizer) {
  const auto file = open_checkpoint(path);
  require_identity(file, identity);
  TrainingState state;
  state.counters = read_counters(file);
  state.history = read_history(file);
  std::vector<at::Tensor> values;
  for (const auto& [name, tensor, rate] : parameters) {
    values.push_back(io::tensor_like(file, "parameter." + name, tensor, "resume"));
    if (state.counters.best_step > 0) {
      // A copy, so that the file can go once later checkpoints have replaced it.
      state.best.push_back(io::tensor_like(file, "best." + name, tensor, "resume").clone());
    }
  }
  optimizer.read(file);
  const at::NoGradGuard no_grad;
  for (size_t i = 0; i < values.size(); ++i) {
    auto parameter = parameters[i].tensor;
    parameter.copy_(values[i]);
  }
  if (file.contains(kGenerator)) state.generator = file.tensor(kGenerator).clone();
  return state;
}

std::string checkpoint_identity(const std::filesystem::path& checkpoint) {
  return metadata(open_checkpoint(checkpoint), kIdentity);
}

}  // namespace lowrank
