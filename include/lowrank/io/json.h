#pragma once

#include <lowrank/export.h>
#include <lowrank/io/printable.h>

#include <cstddef>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace lowrank {

/// The deepest nesting and the longest text that `parse_json` accepts.
inline constexpr int kDeepestJson = 64;
inline constexpr size_t kLongestJson = 100'000'000;
/// The largest number of keys in one object that `parse_ordered_json` accepts. It is limited
/// because a look-up in such an object is a linear search.
inline constexpr size_t kMostOrderedKeys = 10'000;

/// Parses untrusted JSON (RFC 8259, UTF-8). `what` names the text in messages, for example `the
/// header of "model.safetensors"`; `operation` is the word in brackets. Throws FileError for wrong
/// syntax (the message gives the byte where it occurs, counted from 1), for nesting deeper than
/// `kDeepestJson`, for text longer than `kLongestJson`, and for duplicate keys.
LOWRANK_API nlohmann::json parse_json(std::string_view text, const std::string& what,
                                      std::string_view operation = "json");

/// Does the same, and keeps the keys of each object in the order of the text. Also throws FileError
/// for an object with more than `kMostOrderedKeys` keys.
LOWRANK_API nlohmann::ordered_json parse_ordered_json(std::string_view text,
                                                      const std::string& what,
                                                      std::string_view operation = "json");

/// Returns the JSON as UTF-8, indented by `indent`, or on one line if `indent` is -1. Bytes that
/// are not valid UTF-8, which file names may contain, become U+FFFD; characters that a terminal
/// would obey are escaped (printable_json).
template <class Json>
std::string to_text(const Json& json, int indent = 2) {
  return printable_json(
      json.dump(indent, ' ', /*ensure_ascii=*/false, Json::error_handler_t::replace));
}

/// Reads and parses a JSON file. Throws FileError as `read_file` and `parse_json` do.
LOWRANK_API nlohmann::json read_json_file(const std::filesystem::path& path);
/// Does the same with `parse_ordered_json`.
LOWRANK_API nlohmann::ordered_json read_ordered_json_file(const std::filesystem::path& path);

}  // namespace lowrank
