#include "optim/adam_file.h"

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <lowrank/error.h>
#include <lowrank/io/json.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "io/arrays/tensor_like.h"

namespace lowrank {
namespace {

constexpr const char* kSteps = "lowrank.adam_steps";
constexpr const char* kOperation = "adam";

/// The numbers of the parameters, which have no names of their own.
std::vector<std::string> numbers(size_t count) {
  std::vector<std::string> names;
  for (size_t i = 0; i < count; ++i) names.push_back(std::to_string(i));
  return names;
}

std::vector<int64_t> read_steps(const SafetensorsFile& file, size_t count) {
  const auto path = file.path().string();
  const auto it = file.metadata().find(kSteps);
  if (it == file.metadata().end()) {
    fail<FileError>(kOperation, fmt::format("\"{}\" must hold Adam's moments", path),
                    fmt::format("a file without {} in its metadata", kSteps));
  }
  const auto json = parse_json(it->second, "Adam's steps", kOperation);
  std::vector<int64_t> steps;
  for (const auto& item : json) {
    if (item.is_number_integer()) steps.push_back(item.get<int64_t>());
  }
  const auto is_count = [](int64_t value) { return value >= 0; };
  if (json.is_array() && steps.size() == json.size() && steps.size() == count &&
      std::all_of(steps.begin(), steps.end(), is_count)) {
    return steps;
  }
  fail<FileError>(kOperation,
                  fmt::format("\"{}\" must hold the number of steps of {} parameters", path, count),
                  it->second.substr(0, 80));
}

}  // namespace

void append_moments(const Adam& optimizer, const std::vector<std::string>& names,
                    std::vector<SafetensorsEntry>& entries,
                    std::map<std::string, std::string>& metadata) {
  nlohmann::json steps = nlohmann::json::array();
  for (size_t i = 0; i < names.size(); ++i) {
    const auto& moments = optimizer.moments()[i];
    steps.push_back(moments.steps);
    if (moments.steps == 0) continue;
    entries.push_back({"exp_avg." + names[i], moments.exp_avg});
    entries.push_back({"exp_avg_sq." + names[i], moments.exp_avg_sq});
  }
  metadata[kSteps] = steps.dump();
}

void restore_moments(Adam& optimizer, const std::vector<std::string>& names,
                     const SafetensorsFile& file) {
  auto moments = optimizer.moments();
  const auto steps = read_steps(file, moments.size());
  for (size_t i = 0; i < names.size(); ++i) {
    auto& own = moments[i];
    own.steps = steps[i];
    const auto read = [&](const char* kind, const at::Tensor& like) {
      return own.steps > 0 ? io::tensor_like(file, kind + names[i], like, kOperation)
                           : at::zeros_like(like);
    };
    own.exp_avg = read("exp_avg.", own.exp_avg);
    own.exp_avg_sq = read("exp_avg_sq.", own.exp_avg_sq);
  }
  optimizer.restore(moments);
}

void Adam::save(const std::filesystem::path& path) const {
  std::vector<SafetensorsEntry> entries;
  std::map<std::string, std::string> metadata;
  append_moments(*this, numbers(moments_.size()), entries, metadata);
  write_safetensors(path, entries, metadata);
}

void Adam::load(const std::filesystem::path& path) {
  restore_moments(*this, numbers(moments_.size()), SafetensorsFile::open(path));
}

}  // namespace lowrank
