#include "cli/flags/help_text.h"

#include <lowrank/io/printable.h>

#include <CLI/CLI.hpp>
#include <sstream>
#include <string>

namespace lowrank::cli {
namespace {

constexpr size_t kColumns = 80, kNameColumns = 30;

/// Breaks a text between words into lines that fit beside the names.
std::string wrapped(const std::string& text) {
  std::istringstream words(text);
  std::string lines, line;
  for (std::string word; words >> word;) {
    if (!line.empty() &&
        terminal_columns(line) + 1 + terminal_columns(word) > kColumns - kNameColumns) {
      lines += line + "\n";
      line.clear();
    }
    line += (line.empty() ? "" : " ") + word;
  }
  return lines + line;
}

class HelpFormatter : public CLI::Formatter {
 public:
  HelpFormatter() { column_width(kNameColumns); }

  std::string make_option_desc(const CLI::Option* option) const override {
    return wrapped(option->get_description());
  }
  std::string make_subcommand(const CLI::App* command) const override {
    std::stringstream out;
    CLI::detail::format_help(out, "  " + command->get_name(), wrapped(command->get_description()),
                             kNameColumns);
    return out.str();
  }
  /// Leaves out which options exclude each other, for lack of room; a refusal says so.
  std::string make_option_opts(const CLI::Option* option) const override {
    std::string text;
    if (!option->get_type_name().empty()) text += " " + option->get_type_name();
    if (!option->get_default_str().empty()) text += "=" + option->get_default_str();
    if (option->get_required()) text += " REQUIRED";
    return text;
  }
};

}  // namespace

std::shared_ptr<CLI::FormatterBase> help_formatter() { return std::make_shared<HelpFormatter>(); }

}  // namespace lowrank::cli
