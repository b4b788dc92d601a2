#include "app/terminal/message.h"

#include <lowrank/io/printable.h>

#include <cstdio>

namespace lowrank::app {
namespace {

constexpr size_t kLongest = 2000;  // bytes
bool notes_hidden = false;

bool continues_character(char byte) { return (static_cast<unsigned char>(byte) & 0xC0U) == 0x80U; }

/// Returns the line cut to about `kLongest` bytes, between two UTF-8 characters.
std::string shortened(std::string line) {
  if (line.size() <= kLongest) return line;
  size_t end = kLongest;
  while (end > 0 && continues_character(line[end])) --end;
  line.resize(end);
  return line + "...";
}

}  // namespace

void hide_notes(bool hidden) { notes_hidden = hidden; }

void print_message(const std::string& sentence) {
  if (notes_hidden && sentence.starts_with("note: ")) return;
  const auto line = "lowrank: " + shortened(printable(sentence)) + "\n";
  std::fputs(line.c_str(), stderr);
}

}  // namespace lowrank::app
