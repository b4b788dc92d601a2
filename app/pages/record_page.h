#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "app/runs/run_record.h"

namespace lowrank::app {

/// Returns the page about these folders, as HTML (Page::text()): several runs stand beside each
/// other. What the records do not have is left out. Throws Error if gnuplot cannot draw.
std::string page_about(const std::vector<FolderRecord>& folders);

/// The page's name in the folder of a run.
inline constexpr const char* kPageFile = "report.html";

/// Writes the page about one folder into it. Throws what read_records() and page_about() throw.
void write_page(const std::filesystem::path& folder);

}  // namespace lowrank::app
