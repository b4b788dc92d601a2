#pragma once

#include <string>

namespace lowrank::app {

/// Prints "lowrank: ..." to standard error as one line. Control characters are escaped, and the
/// text is cut after about 2,000 bytes. Does not throw if writing fails.
void print_message(const std::string& sentence);

/// Whether print_message() leaves notes out, which are sentences that begin with "note: "
/// (--quiet).
void hide_notes(bool hidden);

}  // namespace lowrank::app
