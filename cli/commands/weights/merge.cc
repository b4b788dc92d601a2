#include <fmt/format.h>
#include <lowrank/io/atomic_file.h>
#include <lowrank/io/json.h>
#include <lowrank/io/printable.h>
#include <lowrank/weights/merge.h>

#include <algorithm>
#include <memory>

#include "app/models/weights_file.h"
#include "app/runs/folder_lock.h"
#include "app/runs/input_protection.h"
#include "app/terminal/message.h"
#include "app/terminal/progress.h"
#include "app/terminal/table.h"
#include "cli/commands/commands.h"
#include "cli/flags/common_flags.h"

namespace lowrank::cli {
namespace {

struct MergeCommand {
  app::CommonOptions common;
  std::string base;
  std::vector<std::string> adapters;
  CheckpointMergeOptions options;
  std::string out;
};

constexpr auto kMergeExamples = R"(Examples:
  lowrank merge base/ --adapters adapter/ --out merged/
  lowrank merge merged/ --adapters adapter/ --subtract --out base-again/)";

void print(const CheckpointMergeReport& report) {
  app::Table table({"tensor", "|update|", "lost by rounding", "numbers", "unchanged"});
  for (const auto& tensor : report.tensors) {
    const double lost = tensor.update == 0 ? 0 : tensor.rounding / tensor.update;
    table.add({tensor.name, tensor.is_replaced ? "replaced" : fmt::format("{:.4g}", tensor.update),
               fmt::format("{:.2e}", lost), app::with_thousands(tensor.numbers),
               app::with_thousands(tensor.unchanged)});
  }
  fmt::print("{}", table.text(app::terminal_width(stdout)));
  app::print_text(fmt::format(
      "{} changed, {} copied; rounding to the dtype of the weights changed the updates by {:.2e}.",
      app::counted(static_cast<int64_t>(report.tensors.size()), "tensor"),
      app::with_thousands(report.copied), report.relative_rounding()));
}

void run_merge(MergeCommand& command) {
  app::apply_common_options(command.common);
  const std::vector<std::filesystem::path> adapters(command.adapters.begin(),
                                                    command.adapters.end());
  const auto base = app::open_weights(command.base);
  auto inputs = files_of(base);
  for (const auto& adapter : adapters) {
    const auto own = app::adapter_files(adapter);
    inputs.insert(inputs.end(), own.begin(), own.end());
  }
  std::vector<std::string> outputs;
  if (base.is_folder()) {
    for (const auto& file : base.files()) outputs.push_back(file.string());
  }
  app::require_no_inputs(command.out, outputs, inputs);
  require_writable_output(command.out, command.common.force);
  std::unique_ptr<app::FolderLock> lock;
  if (base.is_folder()) lock = std::make_unique<app::FolderLock>(command.out);
  command.options.force = command.common.force;
  CheckpointMergeReport report;
  {
    app::Progress progress("merge", 0, "tensors", command.common.quiet);
    command.options.on_tensor = progress.counter();
    report = merge_adapters(base, adapters, command.out, command.options);
    progress.finish();
  }
  for (const auto& note : report.notes) app::print_message("note: " + note);
  for (const auto& adapter : report.of_other_bases) {
    app::print_message(fmt::format(
        "warning: the adapter \"{}\" was made for other weights than those of \"{}\": the base's "
        "SHA-256 in its file is another one.",
        adapter.string(), command.base));
  }
  if (command.common.json) {
    fmt::print("{}\n", to_text(to_json(report)));
    return;
  }
  print(report);
  if (report.resumed > 0) {
    app::print_text(fmt::format("{} had been written before the interruption.",
                                app::counted(report.resumed, "tensor")));
  }
  app::print_text(fmt::format("Wrote {}.", printable(command.out)));
}

}  // namespace

void add_merge(const Flags& flags) {
  auto command = std::make_shared<MergeCommand>();
  const auto merge = flags.command("merge", "Merge adapters into a model's weights on disk");
  merge
      .option("base", &command->base,
              "The base: a file of weights, or a folder as transformers writes")
      .type_name("BASE")
      .required();
  add_adapters_flag(merge, command->adapters);
  merge.option("--out", &command->out, "Where the merged model goes: a folder, or a file as BASE")
      .type_name("PLACE")
      .required();
  merge.option("--prefix", &command->options.prefix,
               "Text before the adapters' names, as transformer. for GPT-2's files");
  merge.flag("--resume", command->options.resume,
             "Go on where a killed merge of the same files stopped");
  merge.flag("--subtract", command->options.subtract,
             "Take the adapters out of a merged model again");
  add_common_flags(merge, command->common, {.seed = false, .device = false, .dtype = false});
  merge.footer(kMergeExamples);
  merge.action([command] { run_merge(*command); });
}

}  // namespace lowrank::cli
