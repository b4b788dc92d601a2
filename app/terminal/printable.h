#pragma once

#include <string>
#include <string_view>

namespace lowrank::app {

/// Returns the text as one line that is safe to print on a terminal: control characters (below
/// 0x20, and 0x7f) are escaped as \n, \t, \r, \x1b and so on; everything else, including UTF-8,
/// is left as it is.
std::string printable(std::string_view text);

}  // namespace lowrank::app
