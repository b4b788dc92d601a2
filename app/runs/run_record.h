#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

/// What finished runs have left in their folders, for a report.
namespace lowrank::app {

/// One training run. What its folder does not have is null.
struct RunRecord {
  std::string name;  ///< of the folder, and for a part of `lowrank mnist` of the part
  nlohmann::ordered_json training, history, figures;
  nlohmann::ordered_json config;  ///< of the adapter
};

/// What one folder holds.
struct FolderRecord {
  std::string name;
  std::vector<RunRecord> runs;      ///< the run, or those of `lowrank mnist`
  nlohmann::ordered_json notebook;  ///< report.json of `lowrank mnist`, else null
  nlohmann::ordered_json weights;   ///< kReportFile of a weight command, else null
  nlohmann::ordered_json svd;       ///< kSvdFile of `lowrank svd --report`, else null
};

/// Returns the files that read_records() may read.
std::vector<std::filesystem::path> record_files(const std::filesystem::path& folder);

/// Removes the records that an older command left in a folder whose adapter has been replaced,
/// other than those of these names. A file of the same name that is no record stays.
void remove_other_records(const std::filesystem::path& folder, const std::vector<std::string>& own);

/// Reads the records of a folder. Throws FileError if it holds none, or one that is damaged.
FolderRecord read_records(const std::filesystem::path& folder);

}  // namespace lowrank::app
