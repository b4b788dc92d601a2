#pragma once

#include <string>

#include "cli/documents/described_command.h"

namespace lowrank::cli {

/// Returns a manual page in man(7)'s language. `version` stands at its foot.
std::string manual_page(const DescribedCommand& command, const std::string& version);

/// Returns the name of a command's page: "lowrank-data-fetch".
std::string page_name(const DescribedCommand& command);

}  // namespace lowrank::cli
