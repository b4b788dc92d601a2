#pragma once

#include <cstdio>
#include <string>

namespace lowrank::app {

/// Prints "lowrank: ..." to standard error: as one line, or on a terminal wrapped at its width.
/// Control characters are escaped, and the text is cut after about 2,000 bytes. Does not throw if
/// writing fails.
void print_message(const std::string& sentence);

/// Whether print_message() leaves notes out, which are sentences that begin with "note: "
/// (--quiet).
void hide_notes(bool hidden);

/// What the user typed to start this program, for commands in messages; "lowrank" at first.
const std::string& program_name();
void set_program_name(const std::string& name);

/// Prints a text and a line break to standard output, on a terminal wrapped at its width.
void print_text(const std::string& text);

/// The columns of the terminal behind a stream; 0 if there is none.
int terminal_width(std::FILE* stream);

/// Breaks the lines of a text that are wider than `width` columns at spaces, and indents what
/// follows to the second column of the line, where it has one, else as the line itself. With a
/// width of 0 it stays as it is.
std::string wrapped(const std::string& text, int width);

}  // namespace lowrank::app
