#pragma once

#include <nlohmann/json_fwd.hpp>

namespace CLI {
class App;
}

/// A command line as data: what --help shows and what a wrong line is told by, without the values
/// and the work behind them.
namespace lowrank::cli {

nlohmann::ordered_json describe_app(const CLI::App& app);

/// Adds what describe_app() described: an app that takes and refuses the same words, shows the same
/// --help, and does nothing.
void add_described(const nlohmann::ordered_json& description, CLI::App& app);

}  // namespace lowrank::cli
