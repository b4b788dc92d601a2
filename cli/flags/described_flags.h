#pragma once

#include <nlohmann/json_fwd.hpp>

namespace CLI {
class App;
}

/// A command line as data: enough to print --help and to refuse wrong arguments, without the values
/// of the options and the work of the commands.
namespace lowrank::cli {

nlohmann::ordered_json describe_app(const CLI::App& app);

/// Adds to `app` what describe_app() described. It then accepts and refuses the same arguments and
/// shows the same --help, but does nothing.
void add_described(const nlohmann::ordered_json& description, CLI::App& app);

}  // namespace lowrank::cli
