#include <fmt/format.h>
#include <lowrank/error.h>
#include <lowrank/io/atomic_file.h>
#include <lowrank/io/json.h>
#include <lowrank/io/safetensors.h>

#include <filesystem>
#include <memory>
#include <optional>
#include <system_error>
#include <vector>

#include "app/reports/evaluation_report.h"
#include "app/runs/input_protection.h"
#include "app/runs/runs.h"
#include "cli/commands/commands.h"
#include "cli/flags/common_flags.h"

namespace lowrank::cli {
namespace {

struct EvalCommand {
  app::CommonOptions common;
  std::string base;
  std::string data;  // empty: the base's own
  std::string adapter;
  bool no_adapter = false;
  bool merge = false;
  bool train_split = false;
  bool confusion = false;
  std::string logits;
};

constexpr auto kEvalExamples = R"(Examples:
  lowrank eval base/ --data mnist
  lowrank eval base/ --adapter two/ --data mnist --confusion
  lowrank eval base/ --adapter two/ --no-adapter --json)";

std::string mode_of(const EvalCommand& command) {
  if (command.adapter.empty()) return "base";
  if (command.no_adapter) return "adapter off";
  return command.merge ? "adapter merged" : "adapter on";
}

void check_combination(const EvalCommand& command) {
  if (command.adapter.empty() && (command.merge || command.no_adapter)) {
    fail<ArgumentError>(
        "eval", fmt::format("{} goes with --adapter", command.merge ? "--merge" : "--no-adapter"),
        "no --adapter");
  }
  if (command.merge && command.no_adapter) {
    fail<ArgumentError>("eval", "at most one of --merge and --no-adapter may be given", "both");
  }
}

void check_output(const EvalCommand& command) {
  const std::filesystem::path base = command.base, adapter = command.adapter;
  std::vector<std::filesystem::path> inputs = {base / "config.json", base / "model.safetensors"};
  for (const auto& folder : {adapter, adapter / "default"}) {  // PEFT's place for named adapters
    inputs.push_back(folder / "adapter_config.json");
    inputs.push_back(folder / "adapter_model.safetensors");
  }
  const auto of_data = app::files_of(command.data);
  inputs.insert(inputs.end(), of_data.begin(), of_data.end());
  app::require_not_an_input(command.logits, inputs);
  require_writable_output(command.logits, command.common.force);
}

void run_eval(EvalCommand& command) {
  check_combination(command);
  const auto resources = app::apply_common_options(command.common);
  auto classifier = app::load_base(command.base, resources);
  command.data = app::data_for(classifier, command.data);
  const auto data = app::load_image_dataset(
      command.data, command.train_split ? app::Split::kTrain : app::Split::kTest);
  require_fit(classifier, data);
  if (!command.logits.empty()) check_output(command);

  std::optional<LoadedAdapter> loaded;
  if (!command.adapter.empty()) {
    app::require_finished(command.adapter);
    loaded = load_adapter(*classifier.model, command.adapter);
    app::warn(loaded->report, command.adapter);
    if (command.merge) loaded->adapter.merge();
    if (command.no_adapter) loaded->adapter.disable();
  }
  const auto logits = app::logits_of(classifier, data, resources);
  const auto evaluation = evaluate(logits, data);
  if (!command.logits.empty()) {
    write_safetensors(command.logits, {{"logits", logits}, {"labels", data.labels}},
                      {{"format", "pt"}});
  }
  if (command.common.json) {
    auto json = to_json(evaluation);
    json["mode"] = mode_of(command);
    json["data"] = data.name;
    if (loaded) app::add_report(json, loaded->report);
    if (command.confusion) json["confusion"] = app::confusion_json(evaluation);
    fmt::print("{}\n", to_text(json));
    return;
  }
  app::print_evaluation(fmt::format("{}, {}", data.name, mode_of(command)), evaluation);
  if (command.confusion) app::print_confusion(evaluation);
}

}  // namespace

void add_eval(const Flags& flags) {
  auto command = std::make_shared<EvalCommand>();
  const auto eval = flags.command("eval", "Evaluate a base model, with or without an adapter");
  eval.option("base", &command->base, "Folder of the base model").type_name("BASE").required();
  eval.option("--data", &command->data, "Data set: mnist, or a folder in MNIST's layout")
      .default_text("the base's");
  eval.option("--adapter", &command->adapter, "Folder of an adapter").type_name("DIR");
  eval.flag("--no-adapter", command->no_adapter, "Load the adapter, but disable it");
  eval.flag("--merge", command->merge, "Merge the adapter into the weights first");
  eval.flag("--train-split", command->train_split, "Evaluate on the training images");
  eval.flag("--confusion", command->confusion, "Print the confusion matrix as well");
  eval.option("--logits", &command->logits, "Write logits and labels to this .safetensors file")
      .type_name("FILE");
  add_common_flags(eval, command->common, {.seed = false});
  eval.footer(kEvalExamples);
  eval.action([command] { run_eval(*command); });
}

}  // namespace lowrank::cli
