#include "cli/flags/described_flags.h"

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace lowrank::cli {
namespace {

using Json = nlohmann::ordered_json;

constexpr bool kPositional = true, kAllNames = true;

Json describe_option(const CLI::Option& option) {
  Json json;
  json["name"] = option.get_name(kPositional, kAllNames);
  json["text"] = option.get_description();
  json["group"] = option.get_group();
  json["takes_value"] = option.get_items_expected_max() > 0;
  json["takes_many"] = option.get_items_expected_max() > 1;
  json["type"] = option.get_type_name();
  json["default"] = option.get_default_str();
  json["required"] = option.get_required();
  json["excludes"] = Json::array();
  for (const auto* other : option.get_excludes()) {
    json["excludes"].push_back(other->get_name(kPositional, kAllNames));
  }
  return json;
}

void add_option(const Json& json, CLI::App& app) {
  const auto name = json.at("name").get<std::string>();
  const auto text = json.at("text").get<std::string>();
  auto* option = json.at("takes_many").get<bool>()
                     ? app.add_option_function<std::vector<std::string>>(
                           name, [](const std::vector<std::string>& /*values*/) {}, text)
                 : json.at("takes_value").get<bool>()
                     ? app.add_option_function<std::string>(
                           name, [](const std::string& /*value*/) {}, text)
                     : app.add_flag(name, text);
  option->group(json.at("group").get<std::string>());
  option->required(json.at("required").get<bool>());
  if (!json.at("takes_value").get<bool>()) return;
  option->type_name(json.at("type").get<std::string>());
  option->default_str(json.at("default").get<std::string>());
}

}  // namespace

Json describe_app(const CLI::App& app) {
  Json json;
  json["name"] = app.get_name();
  json["text"] = app.get_description();
  json["group"] = app.get_group();
  json["footer"] = app.get_footer();
  json["commands_required"] = app.get_require_subcommand_min();
  json["options"] = Json::array();
  for (const auto* option : app.get_options()) {
    if (option == app.get_help_ptr() || option == app.get_version_ptr()) continue;
    json["options"].push_back(describe_option(*option));
  }
  json["commands"] = Json::array();
  for (const auto* command : app.get_subcommands([](const CLI::App*) { return true; })) {
    json["commands"].push_back(describe_app(*command));
  }
  return json;
}

void add_described(const Json& description, CLI::App& app) {
  app.description(description.at("text").get<std::string>());
  app.footer(description.at("footer").get<std::string>());
  if (const auto count = description.at("commands_required").get<int>(); count > 0) {
    app.require_subcommand(count);
  }
  for (const auto& option : description.at("options")) add_option(option, app);
  for (const auto& option : description.at("options")) {
    for (const auto& other : option.at("excludes")) {
      app.get_option(option.at("name").get<std::string>())
          ->excludes(app.get_option(other.get<std::string>()));
    }
  }
  for (const auto& command : description.at("commands")) {
    auto* added = app.add_subcommand(command.at("name").get<std::string>());
    added->group(command.at("group").get<std::string>());
    add_described(command, *added);
  }
}

}  // namespace lowrank::cli
