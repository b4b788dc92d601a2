#include <fmt/format.h>
#include <lowrank/io/printable.h>

#include <algorithm>
#include <cstdint>

namespace lowrank {
namespace {

/// The first character of a UTF-8 text.
struct Character {
  uint32_t code = 0;
  size_t size = 1;        // in bytes; 1 if it is not valid
  bool is_valid = false;  // not overlong, no surrogate, at most U+10FFFF
};

Character first_character(std::string_view text) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  const uint32_t lead = byte(0);
  if (lead < 0x80) return {lead, 1, true};
  const size_t size = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : 2;
  if (lead < 0xC2 || lead > 0xF4 || text.size() < size) return {};
  uint32_t code = lead & (0x7FU >> size);
  for (size_t i = 1; i < size; ++i) {
    if ((byte(i) & 0xC0U) != 0x80U) return {};
    code = code << 6 | (byte(i) & 0x3FU);
  }
  constexpr uint32_t kSmallest[] = {0, 0, 0x80, 0x800, 0x10000};
  const bool is_surrogate = code >= 0xD800 && code <= 0xDFFF;
  if (code < kSmallest[size] || is_surrogate || code > 0x10FFFF) return {};
  return {code, size, true};
}

/// Returns whether a terminal would not show the character, but obey it.
bool is_control(uint32_t code) {
  return code < 0x20 || (code >= 0x7F && code <= 0x9F) || code == 0x061C || code == 0x200E ||
         code == 0x200F || (code >= 0x2028 && code <= 0x202E) || (code >= 0x2066 && code <= 0x2069);
}

template <class Escape>
std::string escaped(std::string_view text, const Escape& escape) {
  std::string line;
  while (!text.empty()) {
    const auto character = first_character(text);
    const auto bytes = text.substr(0, character.size);
    text.remove_prefix(character.size);
    if (character.is_valid && !is_control(character.code)) {
      line += bytes;
    } else {
      line += escape(character, bytes);
    }
  }
  return line;
}

}  // namespace

std::string printable(std::string_view text) {
  return escaped(text, [](const Character& character, std::string_view bytes) -> std::string {
    if (bytes == "\n") return "\\n";
    if (bytes == "\t") return "\\t";
    if (bytes == "\r") return "\\r";
    if (bytes.size() > 1) return fmt::format("\\u{:04x}", character.code);
    return fmt::format("\\x{:02x}", static_cast<unsigned char>(bytes[0]));
  });
}

std::string printable_json(std::string_view json) {
  return escaped(json, [](const Character& character, std::string_view bytes) -> std::string {
    if (bytes == "\n" || !character.is_valid) return std::string(bytes);
    return fmt::format("\\u{:04x}", character.code);
  });
}

size_t terminal_columns(std::string_view text) {
  return static_cast<size_t>(std::count_if(text.begin(), text.end(), [](char byte) {
    return (static_cast<unsigned char>(byte) & 0xC0U) != 0x80U;
  }));
}

}  // namespace lowrank
