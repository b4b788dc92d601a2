#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "app/runs/resources.h"
#include "app/train/train_options.h"
#include "cli/flags/flags.h"

/// The flags of everything that trains.
namespace lowrank::cli {

/// --epochs, --steps, --batch-size, --lr, --schedule, --warmup, --clip-norm, --accumulate,
/// --validation; the defaults are those `options` holds.
void add_training_flags(const Flags& flags, app::TrainOptions& options);

/// --out and --resume: where a run writes, and which run goes on.
struct RunFolder {
  std::string out;
  std::string resume;

  /// The folder of the run. Throws ArgumentError where neither or two different ones are given.
  std::string folder(const std::string& command) const;
};

/// Throws ArgumentError where --steps was given as 0, which would stand for epochs.
void require_steps(const Flags& flags, const std::string& command,
                   const app::TrainOptions& options);

void add_run_folder(const Flags& flags, RunFolder& folder);

/// For --resume: what was not given on the command line is as the interrupted run had it.
template <class T>
void take_unless_given(const Flags& flags, const std::string& flag, T& field,
                       const nlohmann::ordered_json& value) {
  if (!flags.given(flag) && !value.is_null()) field = value.get<T>();
}
void take_training(const Flags& flags, app::TrainOptions& options,
                   const nlohmann::ordered_json& run);
void take_common(const Flags& flags, app::CommonOptions& options,
                 const nlohmann::ordered_json& run);

}  // namespace lowrank::cli
