#pragma once

#include "app/runs/resources.h"
#include "cli/flags/flags.h"

namespace lowrank::cli {

/// The flags that mean the same in every command; `options` must live until the command has run.
void add_common_flags(const Flags& flags, app::CommonOptions& options);

}  // namespace lowrank::cli
