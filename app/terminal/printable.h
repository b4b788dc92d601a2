#pragma once

#include <string>
#include <string_view>

namespace lowrank::app {

/// The text as one line that a terminal shows and does not obey: control characters (below 0x20,
/// and 0x7f) become \n, \t, \r or \x1b and the like; all else, UTF-8 too, stays as it is.
std::string printable(std::string_view text);

}  // namespace lowrank::app
