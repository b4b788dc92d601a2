#pragma once

#include "cli/flags/flags.h"

/// One function a command, each in the file of its name: it adds the command and its flags
/// and the callback that does the work by calling the library and prints what came back.
/// A callback throws on failure; main turns that into one sentence and the exit status.
namespace lowrank::cli {

void add_mnist(const Flags& flags);
void add_train(const Flags& flags);
void add_finetune(const Flags& flags);
void add_eval(const Flags& flags);
void add_predict(const Flags& flags);
void add_info(const Flags& flags);
void add_targets(const Flags& flags);
void add_svd(const Flags& flags);
void add_data(const Flags& flags);
void add_data_fetch(const Flags& data);
void add_data_info(const Flags& data);
void add_doctor(const Flags& flags);

}  // namespace lowrank::cli
