#pragma once

#include "cli/flags/flags.h"

/// One function for each command, in the file of the same name. It adds the command, its flags, and
/// a callback that does the work by calling the library and prints the result. A callback throws on
/// failure; main turns that into one sentence and the exit status.
namespace lowrank::cli {

/// Adds all commands, by what they are for.
void add_commands(const Flags& flags);

void add_mnist(const Flags& flags);
void add_train(const Flags& flags);
void add_finetune(const Flags& flags);
void add_eval(const Flags& flags);
void add_predict(const Flags& flags);
void add_info(const Flags& flags);
void add_targets(const Flags& flags);
void add_svd(const Flags& flags);
void add_report(const Flags& flags);
void add_extract(const Flags& flags);
void add_resize(const Flags& flags);
void add_combine(const Flags& flags);
void add_merge(const Flags& flags);
void add_verify(const Flags& flags);
void add_compare(const Flags& flags);
void add_data(const Flags& flags);
void add_data_fetch(const Flags& data);
void add_data_info(const Flags& data);
void add_data_export(const Flags& data);
void add_doctor(const Flags& flags);

}  // namespace lowrank::cli
