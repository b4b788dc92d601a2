#include "cli/flags/training_flags.h"

#include <fmt/format.h>
#include <lowrank/error.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>

namespace lowrank::cli {
void add_training_flags(const Flags& flags, TrainOptions& options) {
  const auto training = flags.under("Training");
  training.option("--epochs", &options.epochs, "Passes over the training examples").shows_default();
  training.option("--steps", &options.steps, "Optimizer steps, instead of --epochs")
      .default_text("as --epochs");
  training.option("--batch-size", &options.batch_size, "Examples per batch").shows_default();
  training.option("--lr", &options.learning_rate, "Peak learning rate of Adam").shows_default();
  training
      .option(
          "--schedule",
          [&options](const std::string& name) { options.schedule.kind = schedule_kind(name); },
          "Learning rate schedule: constant, linear or cosine")
      .type_name("NAME")
      .default_text(schedule_name(options.schedule.kind));
  training.option("--warmup", &options.schedule.warmup_steps, "Steps of linear warm-up");
  training.option("--clip-norm", &options.clip_norm,
                  "Clip gradients to this norm; 0 disables clipping");
  training
      .option("--accumulate", &options.accumulate, "Batches whose gradients are averaged per step")
      .shows_default();
  training.option("--weight-decay", &options.weight_decay, "Decoupled weight decay (AdamW)");
  training.option("--validation", &options.validation,
                  "Share of the examples to validate on; the best parameters are kept");
  training.option("--validate-every", &options.validate_every, "Steps between validations")
      .default_text("an epoch, or a tenth of the run");
  training
      .option("--patience", &options.patience,
              "End after this many validations that did not lower the loss")
      .default_text("no end");
  training.option("--time-limit", &options.seconds, "End after this many seconds of training")
      .default_text("no limit");
}

void require_steps(const Flags& flags, const std::string& command, const TrainOptions& options) {
  if (!flags.given("--steps")) return;
  if (flags.given("--epochs")) {
    fail<ArgumentError>(command, "at most one of --steps and --epochs may be given", "both");
  }
  if (options.steps != 0) return;
  fail<ArgumentError>(command, "--steps must be at least 1", "0", "Omit it to train for --epochs.");
}

std::string RunFolder::folder(const std::string& command) const {
  if (out.empty() && resume.empty()) {
    fail<ArgumentError>(command, "--out must name the folder to write", "none");
  }
  const auto canonical = [](const std::string& folder) {  // also without a slash at the end
    return std::filesystem::weakly_canonical(std::filesystem::path(folder) / ".")
        .lexically_normal();
  };
  if (!out.empty() && !resume.empty() && canonical(out) != canonical(resume)) {
    fail<ArgumentError>(command, "--out must name the same folder as --resume",
                        fmt::format("--out \"{}\" and --resume \"{}\"", out, resume),
                        "Omit --out.");
  }
  return resume.empty() ? out : resume;
}

void add_run_folder(const Flags& flags, RunFolder& folder) {
  flags.option("--out", &folder.out, "Output folder").type_name("DIR");
  flags
      .option("--resume", &folder.resume,
              "Resume the interrupted run in this folder, with its options")
      .type_name("DIR");
}

void add_process_flags(const Flags& flags, app::ProcessOptions& options) {
  const auto processes = flags.under("Processes");
  processes
      .option("--processes", &options.count,
              "Train in this many processes, which share the batches of --accumulate")
      .default_text("this one alone");
  processes.option("--timeout", &options.timeout, "Seconds that a process waits for the others")
      .shows_default();
  processes.option("--rendezvous", &options.file, "A file on a shared disk where processes meet")
      .type_name("FILE");
}

void start_processes(const app::ProcessOptions& options, app::CommonOptions& common) {
  check(options);
  if (const auto status = app::start_processes(options)) {
    std::fflush(nullptr);
    std::_Exit(*status);  // the processes have said what there was to say
  }
  const auto rank = app::rank_of_this_process();
  if (!rank) return;
  if (common.threads == 0) common.threads = 1;
  if (*rank > 0) common.quiet = true;
}

std::optional<app::Dataset> held_out_for_report(bool report, const app::DataSource& source,
                                                int64_t classes) {
  if (!report || !is_divided(source)) return {};
  auto data = app::load_dataset(source, app::Split::kTest);
  if (data.classes > 0) data.classes = classes;
  return data;
}

void add_log_flag(const Flags& flags, std::string& log_to) {
  flags
      .option("--log-to", &log_to,
              "Folder for metrics.jsonl and TensorBoard's events, written during the run")
      .type_name("DIR");
}

void restore_training(const Flags& flags, TrainOptions& options,
                      const nlohmann::ordered_json& run) {
  restore_unless_given(flags, "--epochs", options.epochs, run.at("epochs"));
  restore_unless_given(flags, "--steps", options.steps, run.at("steps"));
  restore_unless_given(flags, "--batch-size", options.batch_size, run.at("batch_size"));
  restore_unless_given(flags, "--lr", options.learning_rate, run.at("learning_rate"));
  if (!flags.given("--schedule")) {
    options.schedule.kind = schedule_kind(run.at("schedule").get<std::string>());
  }
  restore_unless_given(flags, "--warmup", options.schedule.warmup_steps, run.at("warmup_steps"));
  restore_unless_given(flags, "--clip-norm", options.clip_norm, run.at("clip_norm"));
  restore_unless_given(flags, "--accumulate", options.accumulate, run.at("accumulate"));
  restore_unless_given(flags, "--weight-decay", options.weight_decay, run.at("weight_decay"));
  restore_unless_given(flags, "--validation", options.validation, run.at("validation"));
  restore_unless_given(flags, "--validate-every", options.validate_every, run.at("validate_every"));
  restore_unless_given(flags, "--patience", options.patience, run.at("patience"));
  restore_unless_given(flags, "--time-limit", options.seconds, run.at("seconds"));
}

void require_shared_alike(const nlohmann::ordered_json& run) {
  const bool was_shared = run.value("shared_batches", false);
  if (was_shared == app::rank_of_this_process().has_value()) return;
  fail<ArgumentError>("resume",
                      was_shared ? "the run must go on with --processes, of any number"
                                 : "the run must go on in one process",
                      was_shared ? "none" : "several");
}

void restore_common(const Flags& flags, app::CommonOptions& options,
                    const nlohmann::ordered_json& run) {
  restore_unless_given(flags, "--seed", options.seed, run.at("seed"));
  restore_unless_given(flags, "--threads", options.threads, run.at("threads"));
  restore_unless_given(flags, "--device", options.device, run.at("device"));
  restore_unless_given(flags, "--dtype", options.dtype, run.at("dtype"));
}

}  // namespace lowrank::cli
