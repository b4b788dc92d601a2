#include "training_flags.h"

#include <lowrank/error.h>

#include <filesystem>

namespace lowrank::cli {
void add_training_flags(CLI::App& app, TrainOptions& options) {
  const auto group = "Training";
  app.add_option("--epochs", options.epochs, "Passes over the examples")
      ->capture_default_str()
      ->group(group);
  app.add_option("--steps", options.steps, "Optimizer steps, in place of epochs")->group(group);
  app.add_option("--batch-size", options.batch_size, "Examples a batch")
      ->capture_default_str()
      ->group(group);
  app.add_option("--lr", options.learning_rate, "Peak learning rate of Adam")
      ->capture_default_str()
      ->group(group);
  app.add_option_function<std::string>(
         "--schedule",
         [&options](const std::string& name) { options.schedule.kind = schedule_kind(name); },
         "Learning rate after the warm-up: constant, linear or cosine")
      ->type_name("NAME")
      ->default_str(schedule_name(options.schedule.kind))
      ->group(group);
  app.add_option("--warmup", options.schedule.warmup_steps, "Steps of linear warm-up")
      ->group(group);
  app.add_option("--clip-norm", options.clip_norm, "Clip gradients at this norm; 0: not")
      ->group(group);
  app.add_option("--accumulate", options.accumulate, "Batches a step")
      ->capture_default_str()
      ->group(group);
  app.add_option("--validation", options.validation,
                 "Share of the examples held back; the best state on them is kept")
      ->group(group);
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

void add_run_folder(CLI::App& app, RunFolder& folder) {
  app.add_option("--out", folder.out, "Folder to write")->type_name("DIR");
  app.add_option("--resume", folder.resume,
                 "Go on with the interrupted run in this folder, with its own options")
      ->type_name("DIR");
}

void take_training(const CLI::App& app, TrainOptions& options, const nlohmann::json& run) {
  take_unless_given(app, "--epochs", options.epochs, run.at("epochs"));
  take_unless_given(app, "--steps", options.steps, run.at("steps"));
  take_unless_given(app, "--batch-size", options.batch_size, run.at("batch_size"));
  take_unless_given(app, "--lr", options.learning_rate, run.at("learning_rate"));
  if (app.count("--schedule") == 0) {
    options.schedule.kind = schedule_kind(run.at("schedule").get<std::string>());
  }
  take_unless_given(app, "--warmup", options.schedule.warmup_steps, run.at("warmup_steps"));
  take_unless_given(app, "--clip-norm", options.clip_norm, run.at("clip_norm"));
  take_unless_given(app, "--accumulate", options.accumulate, run.at("accumulate"));
  take_unless_given(app, "--validation", options.validation, run.at("validation"));
}

void take_common(const CLI::App& app, CommonOptions& options, const nlohmann::json& run) {
  take_unless_given(app, "--seed", options.seed, run.at("seed"));
  take_unless_given(app, "--threads", options.threads, run.at("threads"));
  take_unless_given(app, "--device", options.device, run.at("device"));
  take_unless_given(app, "--dtype", options.dtype, run.at("dtype"));
}

}  // namespace lowrank::cli
