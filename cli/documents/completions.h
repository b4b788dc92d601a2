#pragma once

#include <string>

#include "cli/documents/described_command.h"

/// What shells need to complete commands, flags and file names.
namespace lowrank::cli {

std::string bash_completion(const DescribedCommand& command);
std::string zsh_completion(const DescribedCommand& command);
std::string fish_completion(const DescribedCommand& command);

}  // namespace lowrank::cli
