#pragma once

#include <lowrank/adapter/config_fields.h>

#include <functional>
#include <string>

#include "cli/flags/flags.h"

/// The library names options and fields of a config. A user of the command knows their flags.
namespace lowrank::cli {

/// Returns the flag for a regular expression that goes with the flag for a list of names:
/// "--target-regex" for "--target-modules".
std::string regex_flag(const std::string& flag);

/// Returns whether the field of a config was given by one of its flags.
bool is_given(const Flags& flags, const ConfigField& field);

/// Calls `run`. Its errors name the command's flags where the library names options of a run and
/// fields of a config. With --config the fields keep their names, because they may stand there.
void with_names_of_flags(const Flags& flags, const std::function<void()>& run);

}  // namespace lowrank::cli
