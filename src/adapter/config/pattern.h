#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>

struct pcre2_real_code_8;

namespace lowrank {

/// A regular expression in the syntax of Python's re, as PEFT's files hold them: untrusted, so that
/// its length, its steps and its memory are limited. What Python takes and reads otherwise than
/// PCRE2 is refused.
class Pattern {
 public:
  /// `what` names the expression in messages ("target_modules"). Throws ArgumentError with the
  /// place where the syntax is wrong.
  Pattern(std::string text, std::string what);

  /// re.fullmatch(text, path). All of these throw ArgumentError where the limits are exceeded.
  bool matches_all_of(std::string_view path) const;
  /// re.match(text, path): from the start, not necessarily to the end.
  bool matches_start_of(std::string_view path) const;
  /// This named group of re.match(text, path); nothing where it does not match.
  std::optional<std::string> group(std::string_view path, const char* name) const;

 private:
  std::optional<std::string> match(std::string_view path, uint32_t options, uint32_t group) const;

  std::string text_, what_;
  std::shared_ptr<pcre2_real_code_8> code_;
};

}  // namespace lowrank
