#include <fmt/ranges.h>
#include <lowrank/error.h>
#include <lowrank/io/atomic_file.h>
#include <lowrank/io/json.h>
#include <lowrank/io/printable.h>

#include <memory>
#include <utility>

#include "app/runs/runs.h"
#include "app/runs/unfinished.h"
#include "app/terminal/message.h"
#include "app/terminal/table.h"
#include "cli/commands/commands.h"
#include "cli/flags/common_flags.h"
#include "cli/flags/data_flags.h"
#include "cli/flags/flag_names.h"
#include "cli/flags/training_flags.h"

namespace lowrank::cli {
namespace {

struct TrainCommand {
  app::BaseRun run;
  RunFolder folder;
  std::string log_to;
  bool report = false;
  app::ProcessOptions processes;
};

constexpr auto kTrainExamples = R"(Examples:
  lowrank train --data mnist --epochs 1 --seed 0 --out base/
  lowrank train --data photos/ --resize 32,32 --epochs 5 --out base/
  lowrank train --data flowers.csv --label-column species --out base/
  lowrank train --resume base/)";

std::vector<double> numbers_in(const nlohmann::ordered_json& json) {
  return json.is_array() ? json.get<std::vector<double>>() : std::vector{json.get<double>()};
}

void restore_run(const Flags& flags, app::BaseRun& run, const nlohmann::ordered_json& id) {
  require_shared_alike(id);
  restore_common(flags, run.common, id);
  restore_data(flags, run.data, id);
  restore_unless_given(flags, "--sizes", run.sizes, id.at("sizes"));
  run.normalization = {numbers_in(id.at("mean")), numbers_in(id.at("deviation"))};
  restore_training(flags, run.train, id.at("train"));
}

/// What was not given is taken from the data: the number of inputs and outputs, and how inputs are
/// normalized. (A data set in MNIST's layout is normalized as MNIST is.)
void complete_run(const Flags& flags, app::BaseRun& run, const app::Dataset& data) {
  const auto& source = run.data.source;
  if (!flags.given("--sizes")) {
    run.sizes.front() = data.values();
    run.sizes.back() = data.classes > 0 ? data.classes : data.labels[0].numel();
  }
  if (!is_in_mnist_layout(source)) run.normalization = input_statistics(data);
}

void require_sizes(const std::vector<int64_t>& sizes, const app::Dataset& data) {
  const auto outputs = data.classes > 0 ? data.classes : data.labels[0].numel();
  if (sizes.size() >= 2 && sizes.front() == data.values() && sizes.back() == outputs) return;
  fail<ArgumentError>("train",
                      fmt::format("--sizes for {} must begin with {} and end with {}", data.name,
                                  data.values(), outputs),
                      fmt::format("{}", fmt::join(sizes, ",")));
}

void note_classes_from_one(const app::Dataset& data) {
  if (data.classes == 0 || !data.class_names.empty() || app::class_counts(data)[0] > 0) return;
  app::print_message(fmt::format(
      "note: no example of {} has label 0. Classes are counted from 0, so the model gets {} "
      "outputs, the first of which is never trained.",
      data.name, data.classes));
}

double parameters_of(const std::vector<int64_t>& sizes) {
  double numbers = 0;
  for (size_t i = 1; i < sizes.size(); ++i) {
    numbers += static_cast<double>(sizes[i]) * static_cast<double>(sizes[i - 1]);
  }
  return numbers;
}

void print(const app::BaseResult& result, const app::BaseRun& run, const std::string& folder) {
  int64_t parameters = 0;
  for (const auto& parameter : result.trained.model->parameters()) {
    parameters += parameter.numel();
  }
  if (run.common.json) {
    auto json = app::to_json(result.training, /*with_times=*/true);
    json["parameters"] = parameters;
    json["out"] = folder;
    fmt::print("{}\n", to_text(json));
    return;
  }
  app::print_text(fmt::format("Trained {} for {} ({:.1f} a second); mean loss {:.4f}.{}",
                              app::counted(parameters, "parameter"),
                              app::counted(result.training.steps, "step"),
                              result.training.steps_per_second, result.training.mean_loss,
                              app::words_on_result(result.training)));
  const auto path = std::filesystem::path(folder);
  app::print_text(fmt::format("Wrote {} and {}.", printable((path / "model.safetensors").string()),
                              printable((path / "config.json").string())));
}

void run_train(const Flags& flags, TrainCommand& command) {
  auto& run = command.run;
  const auto folder = command.folder.folder("train");
  const bool resume = !command.folder.resume.empty();
  require_steps(flags, "train", run.train);
  check(run.train);
  check(run.data);
  check_report_flag(command.report, folder);
  start_processes(command.processes, run.common);
  nlohmann::ordered_json identity;  // of the run that is resumed
  if (resume) {
    app::with_checkpoint_identity(folder, "train", [&](const nlohmann::ordered_json& id) {
      identity = id;
      restore_run(flags, run, id);
      check(run.common);
      check(run.train);
      check(run.normalization);
    });
    app::require_checkpoint_size(app::checkpoint_of(folder), parameters_of(run.sizes));
  }
  run.train.seed = run.common.seed;
  const auto resources = app::apply_common_options(run.common);
  if (resume && !flags.given("--data")) app::require_found_again(run.data.source.data);
  const auto data = app::load_dataset(source_of(run.data), app::Split::kTrain);
  if (resume) require_same_examples(identity, data);
  if (!resume) complete_run(flags, run, data);
  if (!run.data.mean.empty()) run.normalization.mean = std::exchange(run.data.mean, {});
  if (!run.data.deviation.empty()) {
    run.normalization.deviation = std::exchange(run.data.deviation, {});
  }
  require_sizes(run.sizes, data);
  const auto held_out = held_out_for_report(command.report, source_of(run.data), run.sizes.back());
  app::require_memory_to_train("train", "model", parameters_of(run.sizes), "Give smaller --sizes.");
  const auto rank = app::rank_of_this_process().value_or(0);
  if (!resume && rank == 0) {
    app::require_new_log(command.log_to, run.common.force);
    app::require_new_run_folder(folder, run.common.force, app::FolderKind::kModel);
    note_classes_from_one(data);
  }
  const auto result = app::train_base(run, data,
                                      {.folder = folder,
                                       .title = "train",
                                       .command = "train",
                                       .log_to = command.log_to,
                                       .resume = resume,
                                       .quiet = run.common.quiet,
                                       .resources = resources,
                                       .group = app::join(command.processes),
                                       .held_out = held_out ? &*held_out : nullptr});
  if (rank > 0) return;
  print(result, run, folder);
  write_report(command.report, folder, run.common);
}

}  // namespace

void add_train(const Flags& flags) {
  auto command = std::make_shared<TrainCommand>();
  const auto train = flags.command("train", "Train a multi-layer perceptron from scratch");
  train.option("--sizes", &command->run.sizes, "Sizes of input, hidden layers and output")
      .type_name("N,N,...")
      .default_text("784,1000,2000,10; input and output as the data have them");
  add_run_folder(train, command->folder);
  add_log_flag(train, command->log_to);
  add_report_flag(train, command->report,
                  "Evaluate on the test half of the data, and write report.html");
  add_process_flags(train, command->processes);
  add_data_flags(train, command->run.data, "mnist");
  train.find("--mean").default_text("MNIST's, or the data's");
  train.find("--deviation").default_text("MNIST's, or the data's");
  add_training_flags(train, command->run.train);
  add_common_flags(train, command->run.common);
  train.footer(kTrainExamples);
  train.action(
      [train, command] { with_names_of_flags(train, [&] { run_train(train, *command); }); });
}

}  // namespace lowrank::cli
