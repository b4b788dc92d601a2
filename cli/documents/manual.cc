#include "cli/documents/manual.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>

namespace lowrank::cli {
namespace {

/// A text of which troff obeys nothing.
std::string plain(const std::string& text) {
  std::string result;
  bool begins_line = true;
  for (const char c : text) {
    if (begins_line && (c == '.' || c == '\'')) result += "\\&";
    begins_line = c == '\n';
    if (c == '\\') {
      result += "\\e";
    } else if (c == '-') {
      result += "\\-";
    } else {
      result += c;
    }
  }
  return result;
}

std::string joined_names(const DescribedOption& option) {
  std::string text;
  for (const auto& name : option.names) {
    text += fmt::format("{}\\fB{}\\fR", text.empty() ? "" : ", ", plain(name));
  }
  if (option.takes_value && !option.type.empty()) text += " \\fI" + plain(option.type) + "\\fR";
  return text;
}

std::string paragraph_about(const DescribedOption& option) {
  auto text = ".TP\n" + joined_names(option) + "\n" + plain(option.text);
  if (!option.standard.empty() && option.takes_value) {
    text += fmt::format(" (default: {})", plain(option.standard));
  }
  return text + ".\n";
}

std::string synopsis_of(const DescribedCommand& command) {
  auto text = "\\fB" + plain(command.path) + "\\fR";
  for (const auto& option : command.options) {
    if (!option.is_positional) continue;
    const auto name =
        "\\fI" + plain(option.type.empty() ? option.names.front() : option.type) + "\\fR";
    text += option.is_required ? " " + name : " [" + name + "]";
  }
  if (!command.commands.empty()) text += " \\fIcommand\\fR";
  return text + " [\\fIoptions\\fR]";
}

}  // namespace

std::string page_name(const DescribedCommand& command) {
  auto name = command.path;
  std::replace(name.begin(), name.end(), ' ', '-');
  return name;
}

std::string manual_page(const DescribedCommand& command, const std::string& version) {
  const auto name = page_name(command);
  auto title = name;
  std::transform(title.begin(), title.end(), title.begin(),
                 [](unsigned char c) { return std::toupper(c); });
  auto page = fmt::format(
      ".TH {} 1 \"\" \"{}\" \"lowrank\"\n.SH NAME\n{} \\- {}\n.SH SYNOPSIS\n{}\n", plain(title),
      plain(version), plain(name), plain(command.text), synopsis_of(command));
  const auto add_options = [&](const char* heading, bool positional) {
    bool is_begun = false;
    for (const auto& option : command.options) {
      if (option.is_positional != positional) continue;
      if (!is_begun) page += fmt::format(".SH {}\n", heading);
      is_begun = true;
      page += paragraph_about(option);
    }
  };
  add_options("ARGUMENTS", true);
  if (!command.commands.empty()) page += ".SH COMMANDS\n";
  for (const auto& below : command.commands) {
    page += fmt::format(".TP\n\\fB{}\\fR(1)\n{}.\n", plain(page_name(below)), plain(below.text));
  }
  add_options("OPTIONS", false);
  if (!command.footer.empty()) {
    const auto end = command.footer.find('\n');
    page += ".SH EXAMPLES\n.nf\n" +
            plain(command.footer.substr(end == std::string::npos ? 0 : end + 1)) + "\n.fi\n";
  }
  page += ".SH EXIT STATUS\n0 if all went well, 2 for wrong arguments, 1 for any other failure.\n";
  if (command.path.find(' ') != std::string::npos) page += ".SH SEE ALSO\n\\fBlowrank\\fR(1)\n";
  return page;
}

}  // namespace lowrank::cli
