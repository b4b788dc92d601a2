#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>

struct pcre2_real_code_8;

namespace lowrank {

/// A regular expression in the syntax of Python's re, as in PEFT's files. It is untrusted, so its
/// length, steps and memory are limited. Syntax that Python and PCRE2 read differently is refused.
class Pattern {
 public:
  /// `what` names the expression in messages ("target_modules"). Throws ArgumentError for wrong
  /// syntax; the message says where it is wrong.
  Pattern(std::string text, std::string what);

  /// re.fullmatch(text, path). All of these functions throw ArgumentError if the limits are
  /// exceeded.
  bool matches_all_of(std::string_view path) const;
  /// re.match(text, path): from the start, not necessarily to the end.
  bool matches_start_of(std::string_view path) const;
  /// Returns this named group of re.match(text, path), or nothing if there is no match.
  std::optional<std::string> group(std::string_view path, const char* name) const;

 private:
  std::optional<std::string> match(std::string_view path, uint32_t options, uint32_t group) const;

  std::string text_, what_;
  std::shared_ptr<pcre2_real_code_8> code_;
};

}  // namespace lowrank
