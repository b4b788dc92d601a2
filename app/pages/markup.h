#pragma once

#include <string>
#include <string_view>

/// Text for HTML pages. Whatever comes from a file goes through escaped().
namespace lowrank::app {

/// Returns a text as it can stand between tags and in quoted attributes: printable(), with
/// characters that mean something in HTML replaced.
std::string escaped(std::string_view text);

}  // namespace lowrank::app
