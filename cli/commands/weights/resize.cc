#include <fmt/format.h>
#include <lowrank/io/atomic_file.h>
#include <lowrank/io/json.h>
#include <lowrank/io/printable.h>
#include <lowrank/weights/resize.h>

#include <memory>

#include "app/reports/weights_report.h"
#include "app/runs/folder_lock.h"
#include "app/runs/input_protection.h"
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
};

constexpr auto kResizeExamples = R"(Examples:
  lowrank resize adapter/ --rank 8 --out small/
  lowrank resize adapter/ --energy 0.95 --out small/ --json)";

void run_resize(const ResizeCommand& command) {
  const auto rule = rule_for_layers(command.ranks, "resize");
  app::apply_common_options(command.common);
  app::require_not_an_input(command.out, {command.adapter});
  require_writable_output(command.out, command.common.force);
  const app::FolderLock lock(command.out);
  const auto report = resize_adapter(command.adapter, command.out,
                                     {.rule = rule.rule, .force = command.common.force});
  if (command.common.json) {
    fmt::print("{}\n", to_text(to_json(report)));
    return;
  }
  app::print_report(report, rule.name);
  app::print_text(fmt::format("Wrote {}.", printable(command.out)));
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
  add_rank_flags(resize.under("Rank of each layer (one of these)"), command->ranks);
  add_common_flags(resize, command->common, {.seed = false});
  resize.footer(kResizeExamples);
  resize.action([command] { run_resize(*command); });
}

}  // namespace lowrank::cli
