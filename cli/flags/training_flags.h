#pragma once

#include <lowrank/train/train_options.h>

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "app/data/dataset.h"
#include "app/data/source.h"
#include "app/runs/processes.h"
#include "app/runs/resources.h"
#include "cli/flags/flags.h"

/// The flags of everything that trains.
namespace lowrank::cli {

/// Adds --epochs, --steps, --batch-size, --lr, --schedule, --warmup, --clip-norm, --accumulate and
/// --validation; the defaults are the values in `options`.
void add_training_flags(const Flags& flags, TrainOptions& options);

/// --out and --resume: the folder to write, and the folder of a run to resume.
struct RunFolder {
  std::string out;
  std::string resume;

  /// Returns the run's folder. Throws ArgumentError if neither or two different ones are given.
  std::string folder(const std::string& command) const;
};

/// Throws ArgumentError if --steps was given as 0, which would mean --epochs, or beside it.
void require_steps(const Flags& flags, const std::string& command, const TrainOptions& options);

void add_run_folder(const Flags& flags, RunFolder& folder);

/// Adds --processes, --timeout and --rendezvous.
void add_process_flags(const Flags& flags, app::ProcessOptions& options);

/// Starts the processes that were asked for, and ends this one with their status if they were; see
/// app/runs/processes.h. In a process that was started, one thread is the default.
void start_processes(const app::ProcessOptions& options, app::CommonOptions& common);

void add_log_flag(const Flags& flags, std::string& log_to);

/// Returns the test half of a data set, with as many classes as the model has, if a report is
/// wanted and there is one.
std::optional<app::Dataset> held_out_for_report(bool report, const app::DataSource& source,
                                                int64_t classes);

/// For --resume: takes what was not given on the command line from the interrupted run.
template <class T>
void restore_unless_given(const Flags& flags, const std::string& flag, T& field,
                          const nlohmann::ordered_json& value) {
  if (!flags.given(flag) && !value.is_null()) field = value.get<T>();
}
void restore_training(const Flags& flags, TrainOptions& options, const nlohmann::ordered_json& run);
/// Throws ArgumentError if the run was shared among processes and this one is not, or the reverse.
void require_shared_alike(const nlohmann::ordered_json& run);
void restore_common(const Flags& flags, app::CommonOptions& options,
                    const nlohmann::ordered_json& run);

}  // namespace lowrank::cli
