#include <fmt/format.h>
#include <lowrank/error.h>
#include <lowrank/io/atomic_file.h>
#include <lowrank/io/json.h>
#include <lowrank/io/printable.h>
#include <lowrank/weights/combine_folders.h>

#include <filesystem>
#include <memory>
#include <vector>

#include "app/reports/weights_report.h"
#include "app/runs/folder_lock.h"
#include "app/runs/input_protection.h"
#include "app/runs/unfinished.h"
#include "app/terminal/message.h"
#include "cli/commands/commands.h"
#include "cli/flags/common_flags.h"

namespace lowrank::cli {
namespace {

struct CombineCommand {
  app::CommonOptions common;
  std::vector<std::string> adapters;
  std::vector<double> weights;
  CombineOptions options;
  std::string out;
};

constexpr auto kCombineExamples = R"(Examples:
  lowrank combine --adapters a/,b/ --weights 0.7,0.3 --out both/
  lowrank combine --adapters a/,b/,c/ --method ties --density 0.5 --out both/)";

void run_combine(CombineCommand& command) {
  if (command.weights.empty()) command.weights.assign(command.adapters.size(), 1);
  command.options.seed = command.common.seed;
  check(command.options);
  app::apply_common_options(command.common);
  const std::vector<std::filesystem::path> folders(command.adapters.begin(),
                                                   command.adapters.end());
  std::vector<std::filesystem::path> inputs;
  for (const auto& folder : folders) {
    const auto own = app::adapter_files(folder);
    inputs.insert(inputs.end(), own.begin(), own.end());
  }
  app::require_no_inputs(command.out,
                         {"adapter_config.json", "adapter_model.safetensors", kReportFile}, inputs);
  require_writable_output(command.out, command.common.force);
  app::require_no_other(command.out, app::FolderKind::kAdapter);
  const app::FolderLock lock(command.out);
  const auto report =
      combine_adapter_folders(folders, command.weights, command.out,
                              {.combine = command.options, .force = command.common.force});
  if (command.common.json) {
    fmt::print("{}\n", to_text(to_json(report)));
    return;
  }
  app::print_report(report, combine_method_name(command.options.method));
  app::print_text(fmt::format("Wrote {}.", printable(command.out)));
}

}  // namespace

void add_combine(const Flags& flags) {
  auto command = std::make_shared<CombineCommand>();
  auto& options = command->options;
  const auto combine = flags.command("combine", "Combine adapters of one base into one");
  add_adapters_flag(combine, command->adapters);
  combine.option("--weights", &command->weights, "The weight of each adapter")
      .type_name("X,...")
      .default_text("1 for each");
  combine
      .option(
          "--method",
          [&options](const std::string& name) { options.method = combine_method(name); },
          "cat, linear, svd, ties, ties_svd, dare_linear, dare_linear_svd, dare_ties, "
          "dare_ties_svd, magnitude_prune or magnitude_prune_svd, as in PEFT")
      .type_name("NAME")
      .default_text(combine_method_name(options.method));
  combine.option("--rank", &options.rank, "Rank of the result, for svd and *_svd")
      .default_text("the largest of the adapters");
  combine.option("--density", &options.density, "Share of the entries that pruning keeps")
      .shows_default();
  combine
      .option(
          "--majority-sign",
          [&options](const std::string& name) { options.majority_sign = majority_sign(name); },
          "total or frequency: what elects a sign, for ties")
      .type_name("NAME")
      .default_text(majority_sign_name(options.majority_sign));
  combine.option("--out", &command->out, "Folder for the new adapter").type_name("DIR").required();
  add_common_flags(combine, command->common, {.device = false, .dtype = false});
  combine.footer(kCombineExamples);
  combine.action([command] { run_combine(*command); });
}

}  // namespace lowrank::cli
