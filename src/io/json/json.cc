#include <fmt/format.h>
#include <lowrank/error.h>
#include <lowrank/io/file_bytes.h>
#include <lowrank/io/json.h>

#include <cstdint>
#include <limits>
#include <nlohmann/json.hpp>
#include <string>
#include <unordered_set>
#include <vector>

#include "io/files/system_file.h"

namespace lowrank {
namespace {

/// Checks a text before anything is built from it. (The parser's own callback would take quadratic
/// time: at the end of each object it searches everything that the parent holds.)
template <class Json>
class Guard : public Json::json_sax_t {
 public:
  Guard(const std::string& what, std::string_view operation, size_t most_keys)
      : what_(what), operation_(operation), most_keys_(most_keys) {}

  bool start_object(size_t) override {
    keys_.emplace_back();
    return open();
  }
  bool end_object() override {
    keys_.pop_back();
    return close();
  }
  bool start_array(size_t) override { return open(); }
  bool end_array() override { return close(); }
  bool key(std::string& name) override { return check_new(name); }

  bool null() override { return true; }
  bool boolean(bool) override { return true; }
  bool number_integer(int64_t) override { return true; }
  bool number_unsigned(uint64_t) override { return true; }
  bool number_float(double, const std::string&) override { return true; }
  bool string(std::string&) override { return true; }
  bool binary(typename Json::binary_t&) override { return true; }
  /// Ends the check. The parser finds the same error again, and its exception has the words.
  bool parse_error(size_t, const std::string&, const typename Json::exception&) override {
    return false;
  }

 private:
  bool open() {
    if (depth_++ >= kDeepestJson) {
      fail<FileError>(operation_,
                      fmt::format("{} must nest at most {} levels deep", what_, kDeepestJson),
                      "deeper nesting");
    }
    return true;
  }

  bool close() {
    --depth_;
    return true;
  }

  bool check_new(const std::string& key) {
    if (!keys_.back().insert(key).second) {
      fail<FileError>(operation_, fmt::format("the keys of an object in {} must differ", what_),
                      fmt::format("the key {} twice", io::quoted(key)));
    }
    if (keys_.back().size() > most_keys_) {
      fail<FileError>(operation_,
                      fmt::format("an object in {} must have at most {} keys", what_, most_keys_),
                      "more");
    }
    return true;
  }

  const std::string& what_;
  std::string_view operation_;
  size_t most_keys_;
  int depth_ = 0;
  std::vector<std::unordered_set<std::string>> keys_;
};

/// The parser's own message without its prefix and without the bytes that it quotes from the file.
std::string reason(const nlohmann::json::parse_error& error) {
  std::string text = error.what();
  if (const size_t dash = text.find(" - "); dash != std::string::npos) text.erase(0, dash + 3);
  return text.substr(0, text.find("; last read"));
}

template <class Json>
Json parse(std::string_view text, const std::string& what, std::string_view operation,
           size_t most_keys = std::numeric_limits<size_t>::max()) {
  if (text.size() > kLongestJson) {
    fail<FileError>(operation, fmt::format("{} must be at most {} bytes long", what, kLongestJson),
                    io::count_bytes(text.size()));
  }
  // The parser takes a zero byte for the end of the text and would ignore what follows it.
  if (const size_t zero = text.find('\0'); zero != std::string_view::npos) {
    fail<FileError>(operation, what + " must be valid JSON",
                    fmt::format("wrong syntax at byte {}: a zero byte", zero + 1));
  }
  try {
    Guard<Json> guard(what, operation, most_keys);
    Json::sax_parse(text.begin(), text.end(), &guard);
    return Json::parse(text.begin(), text.end());
  } catch (const nlohmann::json::parse_error& error) {
    fail<FileError>(operation, what + " must be valid JSON",
                    fmt::format("wrong syntax at byte {}: {}", error.byte, reason(error)));
  } catch (const nlohmann::json::exception& error) {
    fail<FileError>(operation, what + " must hold numbers that fit into 64 bits",
                    "a number out of range");
  }
}

}  // namespace

nlohmann::json parse_json(std::string_view text, const std::string& what,
                          std::string_view operation) {
  return parse<nlohmann::json>(text, what, operation);
}

nlohmann::ordered_json parse_ordered_json(std::string_view text, const std::string& what,
                                          std::string_view operation) {
  return parse<nlohmann::ordered_json>(text, what, operation, kMostOrderedKeys);
}

nlohmann::json read_json_file(const std::filesystem::path& path) {
  return parse_json(read_file(path, kLongestJson), io::quoted(path));
}

nlohmann::ordered_json read_ordered_json_file(const std::filesystem::path& path) {
  return parse_ordered_json(read_file(path, kLongestJson), io::quoted(path));
}

}  // namespace lowrank
