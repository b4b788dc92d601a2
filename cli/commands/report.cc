#include <fmt/format.h>
#include <lowrank/error.h>
#include <lowrank/io/atomic_file.h>
#include <lowrank/io/json.h>

#include <cstddef>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "app/pages/record_page.h"
#include "app/runs/input_protection.h"
#include "app/runs/run_record.h"
#include "app/terminal/message.h"
#include "cli/commands/commands.h"
#include "cli/flags/common_flags.h"

namespace lowrank::cli {
namespace {

namespace fs = std::filesystem;

struct ReportCommand {
  app::CommonOptions common;
  std::vector<std::string> folders;
  std::string out;
};

constexpr auto kReportExamples = R"(Examples:
  lowrank report run/mnist/
  lowrank report rank1/ rank4/ rank16/ --out ranks.html)";

/// Gives folders of the same name the names by which they were called.
void tell_apart(std::vector<app::FolderRecord>& records, const std::vector<std::string>& called) {
  std::map<std::string, int> times;
  for (const auto& record : records) ++times[record.name];
  for (size_t i = 0; i < records.size(); ++i) {
    if (times[records[i].name] == 1) continue;
    for (auto& run : records[i].runs) {
      if (run.name == records[i].name) run.name = called[i];
    }
    records[i].name = called[i];
  }
}

void run_report(const ReportCommand& command) {
  std::vector<app::FolderRecord> records;
  for (const auto& folder : command.folders) records.push_back(app::read_records(folder));
  tell_apart(records, command.folders);
  const fs::path out = command.out.empty() ? fs::path(command.folders.front()) / app::kPageFile
                                           : fs::path(command.out);
  for (const auto& folder : command.folders) {
    app::require_not_an_input(out, app::record_files(folder));
  }
  // A report is made anew from the same records; any other file is not replaced without a word.
  require_writable_output(out, command.common.force || command.out.empty());
  write_file_atomically(out, app::page_about(records));
  if (command.common.json) {
    fmt::print("{}\n", to_text(nlohmann::ordered_json{{"out", out.string()}}));
  } else {
    app::print_text(fmt::format("Wrote {}.", printable(out.string())));
  }
}

}  // namespace

void add_report(const Flags& flags) {
  auto command = std::make_shared<ReportCommand>();
  const auto report = flags.command("report", "Show finished runs as one HTML page");
  report.option("folders", &command->folders, "Folders of runs, to be shown side by side")
      .type_name("DIR...")
      .required();
  report
      .option("--out", &command->out,
              "File to write (default: report.html in the first folder, made anew)")
      .type_name("FILE");
  add_common_flags(report, command->common, {.seed = false, .device = false, .dtype = false});
  report.footer(kReportExamples);
  report.action([command] { run_report(*command); });
}

}  // namespace lowrank::cli
