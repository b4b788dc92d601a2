#include <fmt/format.h>
#include <lowrank/io/atomic_file.h>
#include <lowrank/io/file_bytes.h>
#include <lowrank/io/json.h>
#include <lowrank/io/printable.h>
#include <lowrank/weights/resize.h>

#include <filesystem>
#include <memory>
#include <system_error>

#include "app/reports/evaluation_report.h"
#include "app/reports/weights_report.h"
#include "app/runs/folder_lock.h"
#include "app/runs/input_protection.h"
#include "app/runs/run_record.h"
#include "app/runs/unfinished.h"
#include "app/terminal/message.h"
#include "cli/commands/commands.h"
#include "cli/flags/common_flags.h"
#include "cli/flags/rank_flags.h"

namespace lowrank::cli {
namespace {

struct ResizeCommand {
  app::CommonOptions common;
  std::string adapter;
  RankOptions ranks;
  std::string out;
  bool report = false;
};

constexpr auto kResizeExamples = R"(Examples:
  lowrank resize adapter/ --rank 8 --out small/
  lowrank resize adapter/ --energy 0.95 --out small/ --json)";

constexpr const char* kTrainingFile = "training.json";

void run_resize(const Flags& flags, const ResizeCommand& command) {
  const auto rule = rule_for_layers(command.ranks, "resize");
  check_report_flag(command.report, command.out);
  const auto resources = app::apply_common_options(command.common);
  app::require_no_inputs(
      command.out, {"adapter_config.json", "adapter_model.safetensors", kReportFile, kTrainingFile},
      app::adapter_files(command.adapter));
  require_writable_output(command.out, command.common.force);
  app::require_no_other(command.out, app::FolderKind::kAdapter);
  const app::FolderLock lock(command.out);
  ResizeOptions options{.rule = rule.rule,
                        .budget = rule.budget,
                        .split = split_of(command.ranks, "resize"),
                        .force = command.common.force};
  if (flags.given("--dtype")) options.dtype = resources.dtype;
  // How the adapter's examples are prepared (`lowrank finetune`).
  const auto training = std::filesystem::path(command.adapter) / kTrainingFile;
  if (std::error_code none; std::filesystem::exists(training, none)) {
    options.further_files.emplace_back(kTrainingFile, read_file(training, kLongestJson));
  }
  const auto report = resize_adapter(command.adapter, command.out, options);
  app::remove_other_records(command.out, {kReportFile, kTrainingFile});
  app::warn_of_config(report.config_matches, {}, command.adapter);
  for (const auto& note : report.notes) app::print_message("note: " + note);
  if (command.common.json) {
    fmt::print("{}\n", to_text(to_json(report)));
  } else {
    app::print_report(report, rule.name);
    app::print_text(fmt::format("Wrote {}.", printable(command.out)));
  }
  write_report(command.report, command.out, command.common);
}

}  // namespace

void add_resize(const Flags& flags) {
  auto command = std::make_shared<ResizeCommand>();
  const auto resize =
      flags.command("resize", "Give an adapter other ranks, as exactly as they allow");
  resize.option("adapter", &command->adapter, "Folder of an adapter")
      .type_name("ADAPTER")
      .required();
  resize.option("--out", &command->out, "Folder for the new adapter").type_name("DIR").required();
  add_rank_flags(resize.under("Rank of each layer (one rule)"), command->ranks, NoiseFlags::kNone);
  add_factor_flags(resize, command->ranks);
  add_report_flag(resize, command->report);
  add_common_flags(resize, command->common, {.seed = false, .device = false});
  resize.footer(kResizeExamples);
  resize.find("--dtype").description("Data type of the factors (default: as they are)");
  resize.action([resize, command] { run_resize(resize, *command); });
}

}  // namespace lowrank::cli
