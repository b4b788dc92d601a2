#pragma once

#include <lowrank/export.h>

#include <cstddef>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace lowrank {

/// The deepest nesting and the longest text `parse_json` takes.
inline constexpr int kDeepestJson = 64;
inline constexpr size_t kLongestJson = 100'000'000;
/// The most keys of one object that `parse_ordered_json` takes: such an object is searched from
/// its start.
inline constexpr size_t kMostOrderedKeys = 10'000;

/// Parses untrusted JSON (RFC 8259, UTF-8). `what` names the text in messages, for example
/// `the header of "model.safetensors"`; `operation` is the word in brackets.
/// Throws FileError, with the byte where it happened (counted from 1) for wrong syntax, and for
/// nesting deeper than `kDeepestJson`, text longer than `kLongestJson`, and duplicate keys.
LOWRANK_API nlohmann::json parse_json(std::string_view text, const std::string& what,
                                      std::string_view operation = "json");

/// The same with the keys of each object in the order of the text. Throws FileError as well for an
/// object of more than `kMostOrderedKeys` keys.
LOWRANK_API nlohmann::ordered_json parse_ordered_json(std::string_view text,
                                                      const std::string& what,
                                                      std::string_view operation = "json");

/// The JSON as UTF-8, indented by `indent`, or in one line where that is -1. Bytes that are no
/// UTF-8, as names of files may hold, become U+FFFD.
template <class Json>
std::string to_text(const Json& json, int indent = 2) {
  return json.dump(indent, ' ', /*ensure_ascii=*/false, Json::error_handler_t::replace);
}

/// Reads and parses a JSON file. Throws FileError as `read_file` and `parse_json` do.
LOWRANK_API nlohmann::json read_json_file(const std::filesystem::path& path);
/// The same by parse_ordered_json.
LOWRANK_API nlohmann::ordered_json read_ordered_json_file(const std::filesystem::path& path);

}  // namespace lowrank
