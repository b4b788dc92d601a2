#include <fmt/format.h>
#include <lowrank/error.h>
#include <lowrank/io/atomic_file.h>
#include <lowrank/io/json.h>
#include <lowrank/io/printable.h>

#include <memory>

#include "app/runs/runs.h"
#include "app/terminal/message.h"
#include "app/terminal/table.h"
#include "cli/commands/commands.h"
#include "cli/flags/common_flags.h"
#include "cli/flags/training_flags.h"

namespace lowrank::cli {
namespace {

struct TrainCommand {
  app::BaseRun run;
  RunFolder folder;
  std::string log_to;
};

constexpr auto kTrainExamples = R"(Examples:
  lowrank train --data mnist --epochs 1 --seed 0 --out base/
  lowrank train --data /usr/share/datasets/fashion-mnist \
    --mean 0.286 --deviation 0.353 --out f/
  lowrank train --resume base/)";

void restore_run(const Flags& flags, app::BaseRun& run, const nlohmann::ordered_json& id) {
  restore_common(flags, run.common, id);
  restore_unless_given(flags, "--data", run.data, id.at("data"));
  restore_unless_given(flags, "--sizes", run.sizes, id.at("sizes"));
  restore_unless_given(flags, "--mean", run.normalization.mean, id.at("mean"));
  restore_unless_given(flags, "--deviation", run.normalization.deviation, id.at("deviation"));
  restore_training(flags, run.train, id.at("train"));
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
  for (const auto& parameter : result.classifier.model->parameters()) {
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
                              app::words_on_end(result.training)));
  const auto path = std::filesystem::path(folder);
  app::print_text(fmt::format("Wrote {} and {}.", printable((path / "model.safetensors").string()),
                              printable((path / "config.json").string())));
}

void run_train(const Flags& flags, TrainCommand& command) {
  const auto folder = command.folder.folder("train");
  const bool resume = !command.folder.resume.empty();
  require_steps(flags, "train", command.run.train);
  check(command.run.train);
  if (resume) {
    app::with_checkpoint_identity(folder, [&](const nlohmann::ordered_json& id) {
      restore_run(flags, command.run, id);
      check(command.run.train);
      check(command.run.normalization);
    });
    app::require_checkpoint_size(app::checkpoint_of(folder), parameters_of(command.run.sizes));
  }
  command.run.train.seed = command.run.common.seed;
  const auto resources = app::apply_common_options(command.run.common);
  app::require_memory_to_train("train", "model", parameters_of(command.run.sizes),
                               "Give smaller --sizes.");
  const auto data = app::load_image_dataset(command.run.data, app::Split::kTrain);
  if (!resume) app::require_new_log(command.log_to, command.run.common.force);
  if (!resume) app::require_new_run_folder(folder, command.run.common.force);
  const auto result = app::train_base(command.run, data,
                                      {.folder = folder,
                                       .title = "train",
                                       .command = "train",
                                       .log_to = command.log_to,
                                       .resume = resume,
                                       .quiet = command.run.common.quiet,
                                       .resources = resources});
  print(result, command.run, folder);
}

}  // namespace

void add_train(const Flags& flags) {
  auto command = std::make_shared<TrainCommand>();
  const auto train = flags.command("train", "Train a classifier from scratch");
  train.option("--data", &command->run.data, "Data set: mnist, or a folder in MNIST's layout")
      .shows_default();
  train.option("--sizes", &command->run.sizes, "Sizes of input, hidden layers and output")
      .type_name("N,N,...")
      .default_text("784,1000,2000,10");
  train
      .option("--mean", &command->run.normalization.mean, "Mean that is subtracted from the pixels")
      .shows_default();
  train
      .option("--deviation", &command->run.normalization.deviation,
              "Standard deviation that pixels are divided by")
      .shows_default();
  add_run_folder(train, command->folder);
  add_log_flag(train, command->log_to);
  add_training_flags(train, command->run.train);
  add_common_flags(train, command->run.common);
  train.footer(kTrainExamples);
  train.action([train, command] { run_train(train, *command); });
}

}  // namespace lowrank::cli
