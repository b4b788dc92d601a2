#include "cli/flags/common_flags.h"

#include <fmt/format.h>
#include <lowrank/error.h>
#include <lowrank/io/printable.h>

#include <filesystem>
#include <system_error>

#include "app/pages/plot.h"
#include "app/pages/record_page.h"
#include "app/terminal/message.h"

namespace lowrank::cli {

void add_common_flags(const Flags& flags, app::CommonOptions& options, const CommonUse& use) {
  const auto common = flags.under("Common options");
  if (use.seed) {
    common.option("--seed", &options.seed, "Random seed; draws the same numbers as PyTorch");
  }
  common.option("--threads", &options.threads, "Number of threads; 0 uses all cores");
  if (use.device) {
    common.option("--device", &options.device, "Device to run on: auto, cpu or cuda")
        .type_name("NAME")
        .shows_default();
  }
  if (use.dtype) {
    common.option("--dtype", &options.dtype, "Data type: float32 or float64")
        .type_name("NAME")
        .shows_default();
  }
  common.flag("--json", options.json, "Print one JSON object instead of text");
  common.flag("--quiet", options.quiet, "Print no progress and no notes");
  if (use.force) common.flag("--force", options.force, "Replace existing outputs");
}

void add_report_flag(const Flags& flags, bool& report, const std::string& text) {
  flags.flag("--report", report, text);
}

void check_report_flag(bool report, const std::string& folder) {
  if (!report) return;
  const auto page = std::filesystem::path(folder) / app::kPageFile;
  std::error_code none;
  if (std::filesystem::is_directory(page, none)) {
    fail<FileError>("report", fmt::format("\"{}\" must be a file", page.string()), "a folder",
                    "Rename it.");
  }
  app::require_gnuplot();
}

void write_report(bool report, const std::string& folder, const app::CommonOptions& options) {
  if (!report) return;
  app::write_page(folder);
  if (options.json) return;
  const auto page = std::filesystem::path(folder) / app::kPageFile;
  app::print_text(fmt::format("Wrote {}.", printable(page.string())));
}

void add_adapters_flag(const Flags& flags, std::vector<std::string>& adapters) {
  flags
      .names(
          "--adapters", [&adapters](const std::vector<std::string>& names) { adapters = names; },
          "Folders of the adapters")
      .type_name("DIR,...")
      .required();
}

}  // namespace lowrank::cli
