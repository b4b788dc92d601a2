#pragma once

#include <string>

namespace lowrank::app {

/// Prints "lowrank: ..." on standard error as one line: control characters are shown, not obeyed,
/// and what is above about 2,000 bytes is cut. Never throws where that cannot be written.
void print_message(const std::string& sentence);

}  // namespace lowrank::app
