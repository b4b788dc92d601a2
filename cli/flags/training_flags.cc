#include "cli/flags/training_flags.h"

#include <fmt/format.h>
#include <lowrank/error.h>

#include <filesystem>

namespace lowrank::cli {
void add_training_flags(const Flags& flags, app::TrainOptions& options) {
  const auto training = flags.under("Training");
  training.option("--epochs", &options.epochs, "Passes over the examples").shows_default();
  training.option("--steps", &options.steps, "Optimizer steps, in place of epochs");
  training.option("--batch-size", &options.batch_size, "Examples a batch").shows_default();
  training.option("--lr", &options.learning_rate, "Peak learning rate of Adam").shows_default();
  training
      .option(
          "--schedule",
          [&options](const std::string& name) { options.schedule.kind = schedule_kind(name); },
          "Learning rate after the warm-up: constant, linear or cosine")
      .type_name("NAME")
      .default_text(schedule_name(options.schedule.kind));
  training.option("--warmup", &options.schedule.warmup_steps, "Steps of linear warm-up");
  training.option("--clip-norm", &options.clip_norm, "Clip gradients at this norm; 0: not");
  training.option("--accumulate", &options.accumulate, "Batches a step").shows_default();
  training.option("--validation", &options.validation,
                  "Share of the examples held back; the best state on them is kept");
}

void require_steps(const Flags& flags, const std::string& command,
                   const app::TrainOptions& options) {
  if (options.steps != 0 || !flags.given("--steps")) return;
  fail<ArgumentError>(command, "--steps must be at least 1", "0",
                      "Leave it away for the steps of --epochs.");
}

std::string RunFolder::folder(const std::string& command) const {
  if (out.empty() && resume.empty()) {
    fail<ArgumentError>(command, "--out must name the folder to write", "none");
  }
  if (!out.empty() && !resume.empty() &&
      std::filesystem::weakly_canonical(out) != std::filesystem::weakly_canonical(resume)) {
    fail<ArgumentError>(command, "--resume must go on in the folder it names",
                        fmt::format("--out \"{}\" and --resume \"{}\"", out, resume),
                        "Leave --out away.");
  }
  return resume.empty() ? out : resume;
}

void add_run_folder(const Flags& flags, RunFolder& folder) {
  flags.option("--out", &folder.out, "Folder to write").type_name("DIR");
  flags
      .option("--resume", &folder.resume,
              "Go on with the interrupted run in this folder, with its own options")
      .type_name("DIR");
}

void take_training(const Flags& flags, app::TrainOptions& options,
                   const nlohmann::ordered_json& run) {
  take_unless_given(flags, "--epochs", options.epochs, run.at("epochs"));
  take_unless_given(flags, "--steps", options.steps, run.at("steps"));
  take_unless_given(flags, "--batch-size", options.batch_size, run.at("batch_size"));
  take_unless_given(flags, "--lr", options.learning_rate, run.at("learning_rate"));
  if (!flags.given("--schedule")) {
    options.schedule.kind = schedule_kind(run.at("schedule").get<std::string>());
  }
  take_unless_given(flags, "--warmup", options.schedule.warmup_steps, run.at("warmup_steps"));
  take_unless_given(flags, "--clip-norm", options.clip_norm, run.at("clip_norm"));
  take_unless_given(flags, "--accumulate", options.accumulate, run.at("accumulate"));
  take_unless_given(flags, "--validation", options.validation, run.at("validation"));
}

void take_common(const Flags& flags, app::CommonOptions& options,
                 const nlohmann::ordered_json& run) {
  take_unless_given(flags, "--seed", options.seed, run.at("seed"));
  take_unless_given(flags, "--threads", options.threads, run.at("threads"));
  take_unless_given(flags, "--device", options.device, run.at("device"));
  take_unless_given(flags, "--dtype", options.dtype, run.at("dtype"));
}

}  // namespace lowrank::cli
