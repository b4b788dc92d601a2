#include <lowrank/error.h>
#include <lowrank/io/file_bytes.h>
#include <lowrank/io/json.h>

#include <functional>
#include <unordered_set>
#include <vector>

#include "io/system_file.h"

namespace lowrank {
namespace {

using nlohmann::json;

/// Called by the parser at each brace, bracket and key, before anything is built from it.
class Guard {
 public:
  Guard(const std::string& what, std::string_view operation) : what_(what), operation_(operation) {}

  bool operator()(int depth, json::parse_event_t event, const json& parsed) {
    switch (event) {
      case json::parse_event_t::object_start:
        keys_.emplace_back();
        check_depth(depth);
        break;
      case json::parse_event_t::array_start:
        check_depth(depth);
        break;
      case json::parse_event_t::object_end:
        keys_.pop_back();
        break;
      case json::parse_event_t::key:
        check_new(parsed.get_ref<const std::string&>());
        break;
      default:
        break;
    }
    return true;
  }

 private:
  void check_depth(int depth) const {
    if (depth >= kDeepestJson) {
      fail<FileError>(operation_,
                      fmt::format("{} must nest at most {} levels deep", what_, kDeepestJson),
                      "deeper nesting");
    }
  }

  void check_new(const std::string& key) {
    if (!keys_.back().insert(key).second) {
      fail<FileError>(operation_, fmt::format("the keys of an object in {} must differ", what_),
                      fmt::format("the key {} twice", io::quoted(key)));
    }
  }

  const std::string& what_;
  std::string_view operation_;
  std::vector<std::unordered_set<std::string>> keys_;
};

/// The parser's own text less its prefix and the bytes it quotes from the file.
std::string reason(const json::parse_error& error) {
  std::string text = error.what();
  if (const size_t dash = text.find(" - "); dash != std::string::npos) text.erase(0, dash + 3);
  return text.substr(0, text.find("; last read"));
}

}  // namespace

nlohmann::json parse_json(std::string_view text, const std::string& what,
                          std::string_view operation) {
  if (text.size() > kLongestJson) {
    fail<FileError>(operation, fmt::format("{} must be at most {} bytes long", what, kLongestJson),
                    io::count_bytes(text.size()));
  }
  // The parser takes a zero byte for the end of the text and would pass over what follows it.
  if (const size_t zero = text.find('\0'); zero != std::string_view::npos) {
    fail<FileError>(operation, what + " must be valid JSON",
                    fmt::format("wrong syntax at byte {}: a zero byte", zero + 1));
  }
  try {
    Guard guard(what, operation);
    return json::parse(text.begin(), text.end(), std::ref(guard));
  } catch (const json::parse_error& error) {
    fail<FileError>(operation, what + " must be valid JSON",
                    fmt::format("wrong syntax at byte {}: {}", error.byte, reason(error)));
  } catch (const json::exception& error) {
    fail<FileError>(operation, what + " must hold numbers that fit into 64 bits",
                    "a number out of range");
  }
}

nlohmann::json read_json_file(const std::filesystem::path& path) {
  return parse_json(read_file(path, kLongestJson), io::quoted(path));
}

}  // namespace lowrank
