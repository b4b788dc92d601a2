#include <fmt/format.h>
#include <lowrank/error.h>
#include <lowrank/io/atomic_file.h>
#include <lowrank/io/json.h>
#include <lowrank/io/printable.h>
#include <lowrank/weights/extract.h>

#include <memory>
#include <utility>

#include "app/models/weights_file.h"
#include "app/reports/weights_report.h"
#include "app/runs/folder_lock.h"
#include "app/runs/input_protection.h"
#include "app/runs/run_record.h"
#include "app/runs/unfinished.h"
#include "app/terminal/message.h"
#include "app/terminal/progress.h"
#include "cli/commands/commands.h"
#include "cli/flags/common_flags.h"
#include "cli/flags/rank_flags.h"

namespace lowrank::cli {
namespace {

struct ExtractCommand {
  app::CommonOptions common;
  std::string base, tuned;
  RankOptions ranks;
  std::string whole = "save";
  bool fan_in_fan_out = false, resume = false;
  std::string out;
  bool report = false;
};

constexpr auto kExtractExamples = R"(Examples:
  lowrank extract base/ tuned/ --rank 16 --out adapter/
  lowrank extract base/ tuned/ --budget 1000000 --max-rank 64 --out adapter/
  lowrank extract base/ tuned/ --energy 0.9 --whole skip --out adapter/)";

WholeTensors whole_tensors(const std::string& name) {
  if (name == "save") return WholeTensors::kSave;
  if (name == "skip") return WholeTensors::kSkip;
  if (name == "refuse") return WholeTensors::kRefuse;
  fail<ArgumentError>("extract", "--whole must be save, skip or refuse",
                      fmt::format("\"{}\"", name), did_you_mean(name, {"save", "skip", "refuse"}));
}

void run_extract(const ExtractCommand& command) {
  const auto rule = rule_for_layers(command.ranks, "extract");
  ExtractOptions options;
  options.rule = rule.rule;
  options.budget = rule.budget;
  options.split = split_of(command.ranks, "extract");
  options.whole = whole_tensors(command.whole);
  check_report_flag(command.report, command.out);
  const auto resources = app::apply_common_options(command.common);
  options.dtype = resources.dtype;
  options.fan_in_fan_out = command.fan_in_fan_out;
  options.base_name = command.base;
  options.force = command.common.force;
  options.resume = command.resume;
  const auto base = app::open_weights(command.base), tuned = app::open_weights(command.tuned);
  auto inputs = files_of(base);
  const auto of_tuned = files_of(tuned);
  inputs.insert(inputs.end(), of_tuned.begin(), of_tuned.end());
  app::require_no_inputs(command.out,
                         {"adapter_config.json", "adapter_model.safetensors", kReportFile}, inputs);
  require_writable_output(command.out, command.common.force);
  app::require_no_other(command.out, app::FolderKind::kAdapter);
  const app::FolderLock lock(command.out);
  WeightsReport report;
  {
    app::Progress progress("extract", 0, "layers", command.common.quiet);
    options.on_layer = progress.counter();
    report = extract_adapter(base, tuned, command.out, options);
    progress.finish();
  }
  app::remove_other_records(command.out, {kReportFile});
  if (command.common.json) {
    fmt::print("{}\n", to_text(to_json(report)));
  } else {
    app::print_report(report, rule.name);
    app::print_text(fmt::format("Wrote {}.", printable(command.out)));
  }
  write_report(command.report, command.out, command.common);
}

}  // namespace

void add_extract(const Flags& flags) {
  auto command = std::make_shared<ExtractCommand>();
  const auto extract = flags.command("extract", "Make an adapter of the difference of two models");
  extract
      .option("base", &command->base,
              "The base: a file of weights, or a folder as transformers writes")
      .type_name("BASE")
      .required();
  extract.option("tuned", &command->tuned, "The same model after fine-tuning")
      .type_name("TUNED")
      .required();
  extract.option("--out", &command->out, "Folder for the adapter").type_name("DIR").required();
  add_rank_flags(extract.under("Rank of each layer (one rule)"), command->ranks);
  add_factor_flags(extract, command->ranks);
  add_report_flag(extract, command->report);
  extract
      .option("--whole", &command->whole,
              "What becomes of norms, biases and embeddings that changed: save, skip or refuse")
      .type_name("NAME")
      .shows_default();
  extract.flag("--fan-in-fan-out", command->fan_in_fan_out,
               "Weights are (in, out), as GPT-2's Conv1D");
  extract.flag("--resume", command->resume,
               "Go on where a killed extraction of the same files stopped");
  add_common_flags(extract, command->common, {.seed = false, .device = false});
  extract.find("--dtype").description("Data type of the factors: float32 or float64");
  extract.footer(kExtractExamples);
  extract.action([command] { run_extract(*command); });
}

}  // namespace lowrank::cli
