#include "adapter/config/python_regex.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <fmt/format.h>
#include <lowrank/error.h>
#include <pcre2.h>

#include <array>
#include <new>
#include <utility>

namespace lowrank {
namespace {

constexpr size_t kLongestPattern = 10'000;     // bytes
constexpr uint32_t kMostMatchSteps = 100'000;  // a path takes about as many as it has characters
constexpr uint32_t kMostMemory = 20 * 1024;    // KiB

std::string message_of(int error) {
  std::array<PCRE2_UCHAR, 256> text{};
  pcre2_get_error_message(error, text.data(), text.size());
  return reinterpret_cast<const char*>(text.data());
}

std::shared_ptr<pcre2_match_context> match_limits() {
  std::shared_ptr<pcre2_match_context> limits(pcre2_match_context_create(nullptr),
                                              pcre2_match_context_free);
  if (limits == nullptr) throw std::bad_alloc();
  pcre2_set_match_limit(limits.get(), kMostMatchSteps);
  pcre2_set_heap_limit(limits.get(), kMostMemory);
  return limits;
}

PCRE2_SPTR bytes_of(std::string_view text) { return reinterpret_cast<PCRE2_SPTR>(text.data()); }

}  // namespace

Pattern::Pattern(std::string text, std::string what)
    : text_(std::move(text)), what_(std::move(what)) {
  const auto wrong = [&](const std::string& found, const char* hint = "") {
    fail<ArgumentError>("attach", fmt::format("{} must be a regular expression", what_), found,
                        hint);
  };
  if (text_.size() > kLongestPattern) {
    wrong(fmt::format("one of {} bytes, more than {}", text_.size(), kLongestPattern));
  }
  if (text_.find("{,") != std::string::npos) {
    // Python reads {,n} as {0,n}; PCRE2 before 10.43 takes these characters literally.
    wrong(fmt::format("\"{}\"", text_), "Write {0, instead of {,.");
  }
  int error = 0;
  PCRE2_SIZE at = 0;
  auto* code = pcre2_compile(bytes_of(text_), text_.size(),
                             PCRE2_UTF | PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C, &error, &at, nullptr);
  if (code == nullptr) {
    wrong(fmt::format("\"{}\", wrong at character {}: {}", text_, at + 1, message_of(error)));
  }
  code_.reset(code, pcre2_code_free);
}

bool Pattern::matches_all_of(std::string_view path) const {
  return match(path, PCRE2_ANCHORED | PCRE2_ENDANCHORED, 0).has_value();
}

bool Pattern::matches_start_of(std::string_view path) const {
  return match(path, PCRE2_ANCHORED, 0).has_value();
}

std::optional<std::string> Pattern::group(std::string_view path, const char* name) const {
  const int number =
      pcre2_substring_number_from_name(code_.get(), reinterpret_cast<PCRE2_SPTR>(name));
  if (number < 0) return std::nullopt;
  return match(path, PCRE2_ANCHORED, static_cast<uint32_t>(number));
}

std::optional<std::string> Pattern::match(std::string_view path, uint32_t options,
                                          uint32_t group) const {
  static const auto limits = match_limits();
  const std::unique_ptr<pcre2_match_data, decltype(&pcre2_match_data_free)> data(
      pcre2_match_data_create_from_pattern(code_.get(), nullptr), pcre2_match_data_free);
  if (data == nullptr) throw std::bad_alloc();
  const int found =
      pcre2_match(code_.get(), bytes_of(path), path.size(), 0, options, data.get(), limits.get());
  if (found == PCRE2_ERROR_NOMATCH) return std::nullopt;
  if (found < 0) {
    fail<ArgumentError>("attach",
                        fmt::format("{} must be matched within {} steps", what_, kMostMatchSteps),
                        fmt::format("\"{}\" on \"{}\": {}", text_, path, message_of(found)));
  }
  if (std::cmp_greater_equal(group, found)) return std::string();
  const auto* ends = pcre2_get_ovector_pointer(data.get());
  return std::string(path.substr(ends[2 * group], ends[2 * group + 1] - ends[2 * group]));
}

}  // namespace lowrank
