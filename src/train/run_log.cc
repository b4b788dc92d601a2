#include <fmt/format.h>
#include <lowrank/error.h>
#include <lowrank/io/atomic_file.h>
#include <lowrank/io/file_bytes.h>
#include <lowrank/io/json.h>
#include <lowrank/train/run_log.h>

#include <cmath>
#include <optional>
#include <sstream>
#include <system_error>
#include <utility>

#include "train/log/appended_file.h"
#include "train/log/event_file.h"

namespace lowrank {
namespace {

constexpr const char* kMetricsFile = "metrics.jsonl";
constexpr size_t kLongestMetrics = size_t{1} << 30;

/// Returns the step of a line, or nothing if it is none of ours: cut off by a kill, for example.
std::optional<int64_t> step_of(const std::string& line) {
  try {
    const auto json = parse_json(line, "a line", "log");
    if (json.is_object() && json.contains("step") && json["step"].is_number_integer()) {
      return json["step"].get<int64_t>();
    }
  } catch (const FileError&) {
  }
  return std::nullopt;
}

/// Removes what the file holds of later steps than this.
void cut_back(const std::filesystem::path& file, int64_t step) {
  std::error_code none;
  if (!std::filesystem::exists(file, none)) return;
  std::istringstream lines(read_file(file, kLongestMetrics));
  std::string kept;
  for (std::string line; std::getline(lines, line);) {
    const auto of_line = step_of(line);
    if (of_line && *of_line <= step && step > 0) kept += line + "\n";
  }
  write_file_atomically(file, kept);
}

std::filesystem::path made(const std::filesystem::path& folder) {
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (error) {
    fail<FileError>("log", fmt::format("\"{}\" must be a folder to write to", folder.string()),
                    fmt::format("\"{}\"", error.message()));
  }
  return folder;
}

}  // namespace

struct RunLog::Impl {
  Impl(const std::filesystem::path& folder, int64_t step)
      : metrics((cut_back(made(folder) / kMetricsFile, step), folder / kMetricsFile)),
        events(folder) {
    events.start(step > 0 ? step + 1 : 0);
  }

  AppendedFile metrics;
  EventFile events;
};

RunLog::RunLog(const std::filesystem::path& folder, int64_t step)
    : impl_(std::make_unique<Impl>(folder, step)) {}
RunLog::~RunLog() = default;
RunLog::RunLog(RunLog&&) noexcept = default;
RunLog& RunLog::operator=(RunLog&&) noexcept = default;

void RunLog::scalars(int64_t step, const Metrics& values) {
  nlohmann::ordered_json line = {{"step", step}};
  for (const auto& [name, value] : values) {
    line[name] = std::isfinite(value) ? nlohmann::ordered_json(value) : nullptr;
  }
  impl_->metrics.append(to_text(line, -1) + "\n");
  impl_->events.scalars(step, values);
}

void RunLog::histogram(int64_t step, const std::string& name, const at::Tensor& values) {
  impl_->events.histogram(step, name, values);
}

void RunLog::image(int64_t step, const std::string& name, const std::string& png, int64_t height,
                   int64_t width) {
  impl_->events.image(step, name, png, height, width);
}

void RunLog::text(int64_t step, const std::string& name, const std::string& markdown) {
  impl_->events.text(step, name, markdown);
}

}  // namespace lowrank
