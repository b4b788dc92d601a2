#pragma once

#include <string>
#include <vector>

#include "app/runs/resources.h"
#include "cli/flags/flags.h"

namespace lowrank::cli {

/// Which of the common flags a command has a use for.
struct CommonUse {
  bool seed = true;                  // it draws random numbers
  bool force = true;                 // it writes files
  bool device = true, dtype = true;  // it computes where and in what it is told
};

/// The flags that mean the same in every command; `options` must live until the command has run.
void add_common_flags(const Flags& flags, app::CommonOptions& options, const CommonUse& use = {});

/// Adds --report, which write_report() follows.
void add_report_flag(const Flags& flags, bool& report,
                     const std::string& text = "Write report.html as well, a page with plots");
/// Throws Error if a page is wanted that cannot be drawn, and FileError if it cannot be written
/// into the folder: before any work.
void check_report_flag(bool report, const std::string& folder);
/// Writes the page about a command's folder if it is wanted, and says so.
void write_report(bool report, const std::string& folder, const app::CommonOptions& options);

/// Adds --adapters, which is required: folders with commas between them.
void add_adapters_flag(const Flags& flags, std::vector<std::string>& adapters);

}  // namespace lowrank::cli
