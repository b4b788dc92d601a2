#pragma once

#include <CLI/CLI.hpp>

/// One function a command, each in the file of its name: it adds the command's flags to `app`
/// and the callback that does the work by calling the library and prints what came back.
/// A callback throws on failure; main turns that into one sentence and the exit status.
namespace lowrank::cli {

void add_mnist(CLI::App& app);
void add_train(CLI::App& app);
void add_finetune(CLI::App& app);
void add_eval(CLI::App& app);
void add_predict(CLI::App& app);
void add_info(CLI::App& app);
void add_targets(CLI::App& app);
void add_svd(CLI::App& app);
void add_data(CLI::App& app);

}  // namespace lowrank::cli
