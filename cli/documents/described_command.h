#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

/// The command line as describe() has it, for the documents that are made of it.
namespace lowrank::cli {

/// One flag or positional argument.
struct DescribedOption {
  std::vector<std::string> names;    ///< "--rank", "-r"; a positional argument's without dashes
  std::string text, type, standard;  ///< `standard`: the default value
  bool takes_value = false, is_required = false, is_positional = false;
};

/// A command with its flags, and the commands below it.
struct DescribedCommand {
  std::string path;  ///< "lowrank data fetch"
  std::string text, footer;
  std::vector<DescribedOption> options;
  std::vector<DescribedCommand> commands;

  std::string name() const { return path.substr(path.rfind(' ') + 1); }
};

/// Reads what describe() returns.
DescribedCommand described_command(const nlohmann::ordered_json& description);

}  // namespace lowrank::cli
