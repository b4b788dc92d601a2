#include "cli/flags/flag_names.h"

#include <lowrank/error.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <string_view>
#include <utility>
#include <variant>

namespace lowrank::cli {
namespace {

/// Options whose flags are called otherwise.
constexpr std::array<std::pair<std::string_view, const char*>, 3> kOtherFlags = {{
    {"learning_rate", "--lr"},
    {"warmup_steps", "--warmup"},
    {"seconds", "--time-limit"},
}};

/// Returns the flag of an option of a run: "--batch-size" for "train.batch_size".
std::string flag_of_option(std::string_view option) {
  if (option.starts_with("train.")) option.remove_prefix(6);
  for (const auto& [name, flag] : kOtherFlags) {
    if (name == option) return flag;
  }
  auto flag = "--" + std::string(option);
  std::replace(flag.begin(), flag.end(), '_', '-');
  return flag;
}

/// Names the flag in "[resume] train.steps must be 100" and "[train] batch_size must be at least
/// 1".
void name_flag_of_option(std::string& text, const Flags& flags) {
  const auto begin = text.find("] ") + 2, end = text.find(" must be ");
  if (begin == std::string::npos + 2 || end == std::string::npos || end <= begin) return;
  const auto flag = flag_of_option(std::string_view(text).substr(begin, end - begin));
  if (flags.has(flag)) text.replace(begin, end - begin, flag);
}

/// Replaces `name` by `flag` where it is a word of its own, not quoted and no part of a path.
void replace_word(std::string& text, const std::string& name, const std::string& flag) {
  const auto is_part = [](char c) {
    return std::isalnum(static_cast<unsigned char>(c)) != 0 ||
           std::string_view("_./\"'-").find(c) != std::string_view::npos;
  };
  for (size_t at = text.find(name); at != std::string::npos; at = text.find(name, at + 1)) {
    const size_t end = at + name.size();
    const bool is_word = (at == 0 || !is_part(text[at - 1])) &&
                         (end == text.size() || text[end] == '.' || !is_part(text[end]));
    if (is_word) text.replace(at, name.size(), flag);
  }
}

/// Returns the flag of a field, of its two the one that was given.
std::string flag_of(const Flags& flags, const ConfigField& field) {
  const bool has_regex = std::holds_alternative<ModuleSelector LoraConfig::*>(field.member);
  const bool is_regex = has_regex && flags.given(regex_flag(field.flag));
  return is_regex ? regex_flag(field.flag) : std::string(field.flag);
}

/// Names flags in place of the options of a run ("lora.r"), and of fields unless `only_options`.
std::string in_words_of_flags(std::string text, const Flags& flags, bool only_options) {
  if (flags.given("--config")) return text;
  name_flag_of_option(text, flags);
  for (const auto& field : config_fields()) {
    const std::string name = field.name;
    if (!flags.has(field.flag)) continue;
    const auto flag = flag_of(flags, field);
    replace_word(text, "lora." + name, flag);
    const bool is_clear = name.find('_') != std::string::npos;  // "bias" is also a word
    if (!only_options && is_clear) replace_word(text, name, flag);
  }
  return text;
}

}  // namespace

std::string regex_flag(const std::string& flag) {
  return flag.substr(0, flag.rfind('-')) + "-regex";
}

bool is_given(const Flags& flags, const ConfigField& field) {
  const bool has_regex = std::holds_alternative<ModuleSelector LoraConfig::*>(field.member);
  return flags.given(field.flag) || (has_regex && flags.given(regex_flag(field.flag)));
}

void with_names_of_flags(const Flags& flags, const std::function<void()>& run) {
  try {
    run();
  } catch (const ArgumentError& error) {
    throw ArgumentError(in_words_of_flags(error.what(), flags, /*only_options=*/false));
  } catch (const FileError& error) {  // of a run that is resumed
    throw FileError(in_words_of_flags(error.what(), flags, /*only_options=*/true));
  }
}

}  // namespace lowrank::cli
