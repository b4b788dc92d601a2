#pragma once

#include <lowrank/train/train_options.h>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "common_options.h"

/// The flags of everything that trains.
namespace lowrank::cli {

/// --epochs, --steps, --batch-size, --lr, --schedule, --warmup, --clip-norm, --accumulate,
/// --validation; the defaults are those `options` holds.
void add_training_flags(CLI::App& app, TrainOptions& options);

/// --out and --resume: where a run writes, and which run goes on.
struct RunFolder {
  std::string out;
  std::string resume;

  /// The folder of the run. Throws ArgumentError where neither or two different ones are given.
  std::string folder(const std::string& command) const;
};
void add_run_folder(CLI::App& app, RunFolder& folder);

/// For --resume: what was not given on the command line is as the interrupted run had it.
template <class T>
void take_unless_given(const CLI::App& app, const std::string& flag, T& field,
                       const nlohmann::json& value) {
  if (app.count(flag) == 0 && !value.is_null()) field = value.get<T>();
}
void take_training(const CLI::App& app, TrainOptions& options, const nlohmann::json& run);
void take_common(const CLI::App& app, CommonOptions& options, const nlohmann::json& run);

}  // namespace lowrank::cli
