#pragma once

#include <nlohmann/json_fwd.hpp>

#include "app/runs/base.h"
#include "cli/flags/flags.h"

/// The flags that say which examples a command uses, and how they are read.
namespace lowrank::cli {

/// Adds --data, --labels, --label-column, --loss, --channels, --resize, --mean and --deviation.
/// `default_data` is what --help shows as the default of --data.
void add_data_flags(const Flags& flags, app::DataOptions& options, const char* default_data);

/// Adds the source as an argument, with the flags that say how it is read.
void add_source(const Flags& flags, app::DataOptions& options);

/// For --resume: takes what was not given on the command line from the interrupted run.
void restore_data(const Flags& flags, app::DataOptions& options, const nlohmann::ordered_json& run);

}  // namespace lowrank::cli
