#include "app/runs/run_record.h"

#include <fmt/format.h>
#include <lowrank/error.h>
#include <lowrank/io/json.h>
#include <lowrank/weights/report.h>

#include <algorithm>
#include <system_error>
#include <utility>

#include "app/reports/svd_report.h"
#include "app/runs/figures.h"
#include "app/runs/notebook.h"
#include "app/runs/unfinished.h"

namespace lowrank::app {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

/// The object in a file; null if there is no such file.
Json object_in(const fs::path& file) {
  std::error_code none;
  // A broken link, or a folder that cannot be read, is refused below.
  if (fs::symlink_status(file, none).type() == fs::file_type::not_found) return nullptr;
  auto json = read_ordered_json_file(file);
  if (!json.is_object()) {
    fail<FileError>("report", fmt::format("\"{}\" must hold a JSON object", file.string()),
                    json.type_name());
  }
  return json;
}

RunRecord read_run(const fs::path& folder, const std::string& name) {
  return {.name = name,
          .training = object_in(folder / kTrainingFile),
          .history = object_in(folder / kHistoryFile),
          .figures = object_in(folder / kFiguresFile),
          .config = object_in(folder / "adapter_config.json")};
}

std::string name_of(const fs::path& folder) {
  const auto absolute = fs::absolute(folder).lexically_normal();
  return (absolute.has_filename() ? absolute : absolute.parent_path()).filename().string();
}

}  // namespace

std::vector<fs::path> record_files(const fs::path& folder) {
  std::vector<fs::path> files;
  for (const char* name : {kNotebookRun, kNotebookReport, kReportFile, kSvdFile}) {
    files.push_back(folder / name);
  }
  for (const char* part : {"", "base", "adapter", "replay"}) {
    for (const char* name : {kTrainingFile, kHistoryFile, kFiguresFile, "adapter_config.json"}) {
      files.push_back(folder / part / name);
    }
  }
  return files;
}

void remove_other_records(const fs::path& folder, const std::vector<std::string>& own) {
  // Each of our records has a field by which it is told from a file of the user's of that name.
  constexpr std::pair<const char*, const char*> kRecords[] = {{kTrainingFile, "run"},
                                                              {kHistoryFile, "points"},
                                                              {kFiguresFile, "parameters"},
                                                              {kReportFile, "layers"},
                                                              {kSvdFile, "singular_values"}};
  for (const auto& [name, field] : kRecords) {
    if (std::find(own.begin(), own.end(), name) != own.end()) continue;
    try {
      if (!object_in(folder / name).contains(field)) continue;
    } catch (const Error&) {
      continue;  // not ours
    }
    std::error_code none;
    fs::remove(folder / name, none);
  }
}

FolderRecord read_records(const fs::path& folder) {
  require_finished(folder);
  FolderRecord record{
      .name = name_of(folder), .runs = {}, .notebook = nullptr, .weights = nullptr, .svd = nullptr};
  std::error_code none;
  if (fs::exists(folder / kNotebookRun, none)) {
    record.notebook = object_in(folder / kNotebookReport);
    for (const char* part : {"base", "adapter", "replay"}) {
      if (fs::exists(folder / part / kTrainingFile, none)) {
        record.runs.push_back(read_run(folder / part, part));
      }
    }
  }
  record.weights = object_in(folder / kReportFile);
  record.svd = object_in(folder / kSvdFile);
  const auto own = read_run(folder, record.name);
  if (!own.training.is_null() || !own.history.is_null()) record.runs.push_back(own);
  if (record.runs.empty() && record.notebook.is_null() && record.weights.is_null() &&
      record.svd.is_null()) {
    fail<FileError>("report",
                    fmt::format("\"{}\" must hold what a run or a command for weights has "
                                "written: {}, {}, {}, {} or {}",
                                folder.string(), kTrainingFile, kHistoryFile, kNotebookReport,
                                kReportFile, kSvdFile),
                    "none of them");
  }
  return record;
}

}  // namespace lowrank::app
