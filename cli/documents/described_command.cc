#include "cli/documents/described_command.h"

#include <algorithm>

namespace lowrank::cli {
namespace {

using Json = nlohmann::ordered_json;

/// CLI11 gives all names of an option in one text: "--rank,-r".
DescribedOption option_of(const Json& json) {
  DescribedOption option{.names = {},
                         .text = json.at("text"),
                         .type = json.at("type"),
                         .standard = json.at("default"),
                         .takes_value = json.at("takes_value"),
                         .is_required = json.at("required"),
                         .is_positional = false};
  const auto names = json.at("name").get<std::string>();
  for (size_t begin = 0; begin <= names.size();) {
    const auto end = std::min(names.find(',', begin), names.size());
    option.names.push_back(names.substr(begin, end - begin));
    begin = end + 1;
  }
  option.is_positional = !option.names.front().starts_with("-");
  return option;
}

DescribedCommand command_of(const Json& json, const std::string& above) {
  DescribedCommand command{.path = above.empty() ? json.at("name").get<std::string>()
                                                 : above + " " + json.at("name").get<std::string>(),
                           .text = json.at("text"),
                           .footer = json.at("footer"),
                           .options = {},
                           .commands = {}};
  for (const auto& option : json.at("options")) command.options.push_back(option_of(option));
  for (const auto& below : json.at("commands")) {
    command.commands.push_back(command_of(below, command.path));
  }
  return command;
}

}  // namespace

DescribedCommand described_command(const Json& description) { return command_of(description, ""); }

}  // namespace lowrank::cli
