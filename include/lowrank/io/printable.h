#pragma once

#include <lowrank/export.h>

#include <cstddef>
#include <string>
#include <string_view>

/// What a file says is untrusted, and so are the messages of errors that quote it.
namespace lowrank {

/// Returns the text as one line that is safe to print on a terminal. Control characters (U+0000 to
/// U+001F, U+007F to U+009F), characters that change the direction or the lines of a text (U+061C,
/// U+200E, U+200F, U+2028 to U+202E, U+2066 to U+2069) and bytes that are not valid UTF-8 are
/// escaped as `\n`, `\t`, `\r`, `\x1b`, `\u202e` and so on. Everything else is left as it is.
LOWRANK_API std::string printable(std::string_view text);

/// Returns the JSON text with the same characters escaped in JSON's way, which does not change its
/// meaning. Line breaks, which are between its values, stay.
LOWRANK_API std::string printable_json(std::string_view json);

/// Returns how many columns of a terminal a UTF-8 text takes, at one for each character.
LOWRANK_API size_t terminal_columns(std::string_view text);

}  // namespace lowrank
