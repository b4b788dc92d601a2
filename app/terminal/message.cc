#include "app/terminal/message.h"

#include <fmt/format.h>
#include <lowrank/error.h>
#include <lowrank/io/printable.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>

namespace lowrank::app {
namespace {

constexpr size_t kLongest = 2000;  // bytes
bool notes_hidden = false;
std::string own_name = "lowrank";

/// How far the continuation of a line is indented: to its second column ("ok   the base ..."), or
/// as the line itself is; not at all if that would leave little room.
size_t hanging_indent(const std::string& text, size_t begin, int width) {
  const auto line = text.substr(begin, text.find('\n', begin) - begin);
  const auto own = std::min(line.find_first_not_of(' '), line.size());
  const auto gap = line.find("  ", own);
  const auto second = gap == std::string::npos ? gap : line.find_first_not_of(' ', gap);
  const auto column = second == std::string::npos ? own : terminal_columns(line.substr(0, second));
  return column <= static_cast<size_t>(width) / 3 ? column : 0;
}

}  // namespace

void hide_notes(bool hidden) { notes_hidden = hidden; }

void print_message(const std::string& sentence) {
  if (notes_hidden && sentence.starts_with("note: ")) return;
  const auto line =
      wrapped("lowrank: " + shortened(printable(sentence), kLongest), terminal_width(stderr));
  std::fputs((line + "\n").c_str(), stderr);
}

const std::string& program_name() { return own_name; }
void set_program_name(const std::string& name) { own_name = name; }

void print_text(const std::string& text) {
  fmt::print("{}\n", wrapped(text, terminal_width(stdout)));
}

int terminal_width(std::FILE* stream) {
  winsize size{};
  const int file = fileno(stream);
  if (isatty(file) == 0) return 0;
  return ioctl(file, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}

std::string wrapped(const std::string& text, int width) {
  if (width <= 0) return text;
  std::string result, line;
  size_t hang = hanging_indent(text, 0, width);
  const auto end_line = [&] {
    while (!line.empty() && line.back() == ' ') line.pop_back();
    result += line + "\n";
    line.clear();
  };
  for (size_t begin = 0; begin < text.size();) {
    if (text[begin] == '\n') {
      end_line();
      ++begin;
      hang = hanging_indent(text, begin, width);
      continue;
    }
    // A word with the spaces before it; those at the start of the text's own lines stay.
    const auto word_begin = std::min(text.find_first_not_of(' ', begin), text.size());
    const auto word_end = std::min(text.find_first_of(" \n", word_begin), text.size());
    const auto piece = text.substr(begin, word_end - begin);
    if (!line.empty() && terminal_columns(line + piece) > static_cast<size_t>(width)) {
      end_line();
      line = std::string(hang, ' ') + text.substr(word_begin, word_end - word_begin);
    } else {
      line += piece;
    }
    begin = word_end;
  }
  return result + line;
}

}  // namespace lowrank::app
