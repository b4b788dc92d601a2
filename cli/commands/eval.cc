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
#include "app/runs/base.h"
#include "app/runs/input_protection.h"
#include "app/runs/unfinished.h"
#include "app/terminal/message.h"
#include "cli/commands/commands.h"
#include "cli/flags/common_flags.h"
#include "cli/flags/data_flags.h"

namespace lowrank::cli {
namespace {

struct EvalCommand {
  app::CommonOptions common;
  std::string base;
  app::DataOptions data;
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
  lowrank eval base/ --adapter two/ --no-adapter --json
  lowrank eval classifier.pt --adapter mine/ --data photos/test --resize 224,224)";

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
  const auto of_data = app::files_of(command.data.source);
  inputs.insert(inputs.end(), of_data.begin(), of_data.end());
  app::require_not_an_input(command.logits, inputs);
  if (std::filesystem::path(command.logits).extension() != ".safetensors") {
    fail<ArgumentError>("eval", "--logits must name a .safetensors file",
                        fmt::format("\"{}\"", command.logits));
  }
  require_writable_output(command.logits, command.common.force);
}

/// Prints how good the outputs are, and what was evaluated.
void print_figures(const EvalCommand& command, const app::Dataset& data, const at::Tensor& outputs,
                   const std::optional<LoadedAdapter>& loaded) {
  const auto title = fmt::format("{}, {}", data.name, mode_of(command));
  const auto add_what = [&](nlohmann::ordered_json json) {
    json["mode"] = mode_of(command);
    json["data"] = data.name;
    if (loaded) app::add_report(json, loaded->report);
    return json;
  };
  if (data.classes == 0) {
    const auto error = regression_error(outputs, data);
    if (command.common.json) {
      fmt::print("{}\n", to_text(add_what(to_json(error))));
    } else {
      app::print_evaluation(title, error);
    }
    return;
  }
  const auto evaluation = evaluate(outputs, data);
  if (command.common.json) {
    auto json = add_what(to_json(evaluation));
    if (!data.class_names.empty()) json["class_names"] = data.class_names;
    if (command.confusion) json["confusion"] = app::confusion_json(evaluation);
    fmt::print("{}\n", to_text(json));
    return;
  }
  app::print_evaluation(title, evaluation, data.class_names);
  if (!command.confusion) return;
  fmt::print("\n");
  app::print_confusion(evaluation, data.class_names);
}

/// Files, and folders that are not divided, have no test half.
void note_training_examples(const app::Base& base, const app::DataSource& source) {
  const auto& own = base.preparation.data;
  if (is_divided(source) || own.empty() || app::named_data(source.data) != own) return;
  app::print_message(fmt::format(
      "note: \"{}\" has no test half: these are the examples that the {} was trained on.",
      source.data, base.model.is_script() ? "adapter" : "base"));
}

void run_eval(EvalCommand& command) {
  check_combination(command);
  const auto resources = app::apply_common_options(command.common);
  auto base = app::load_base(command.base, resources);
  if (!command.adapter.empty()) {
    app::require_finished(command.adapter);
    take_preparation(base, command.adapter);
  }
  const auto source = complete(command.data, base);
  auto data =
      app::load_dataset(source, command.train_split ? app::Split::kTrain : app::Split::kTest);
  fit(base, data);
  if (command.confusion && data.classes == 0) {
    fail<ArgumentError>("eval", "--confusion must be given for classes alone",
                        fmt::format("{}, which has numbers to predict", data.name));
  }
  if (!command.logits.empty()) check_output(command);
  note_training_examples(base, source);
  note_normalization(base, data, command.data);
  std::optional<LoadedAdapter> loaded;
  if (!command.adapter.empty()) {
    loaded = base.model.load_adapter(command.adapter);
    app::warn(loaded->report, command.adapter);
    if (command.merge) loaded->adapter.merge();
    if (command.no_adapter) loaded->adapter.disable();
  }
  const auto outputs = app::outputs_of(base, data, resources);
  if (!command.logits.empty()) {
    write_safetensors(command.logits, {{"logits", outputs}, {"labels", data.labels}},
                      {{"format", "pt"}});
  }
  print_figures(command, data, outputs, loaded);
}

}  // namespace

void add_eval(const Flags& flags) {
  auto command = std::make_shared<EvalCommand>();
  const auto eval = flags.command("eval", "Evaluate a base model, with or without an adapter");
  eval.option("base", &command->base, "Folder of the base, or a TorchScript file")
      .type_name("BASE")
      .required();
  eval.option("--adapter", &command->adapter, "Folder of an adapter").type_name("DIR");
  eval.flag("--no-adapter", command->no_adapter, "Load the adapter, but disable it");
  eval.flag("--merge", command->merge, "Merge the adapter into the weights first");
  eval.flag("--train-split", command->train_split, "Evaluate on the training examples");
  eval.flag("--confusion", command->confusion, "Print the confusion matrix as well");
  eval.option("--logits", &command->logits, "Write logits and labels to this .safetensors file")
      .type_name("FILE");
  add_data_flags(eval, command->data, "the base's");
  add_common_flags(eval, command->common, {.seed = false});
  eval.footer(kEvalExamples);
  eval.action([command] { run_eval(*command); });
}

}  // namespace lowrank::cli
