#include "cli/commands/commands.h"

namespace lowrank::cli {
namespace {

constexpr auto kExamples = R"(Examples:
  lowrank mnist --digit 2 --out run/
  lowrank finetune base/ --only 2 --rank 1 --out two/
  lowrank eval base/ --adapter two/
  lowrank info model.safetensors --spectrum
The --help of each command has more.)";

}  // namespace

void add_commands(const Flags& flags) {
  flags.require_command();
  const auto learn = flags.under("See what LoRA and SVD do");
  for (const auto add : {add_mnist, add_svd}) add(learn);
  const auto train = flags.under("Train and use");
  for (const auto add : {add_train, add_finetune, add_eval, add_predict, add_targets, add_report})
    add(train);
  const auto weights = flags.under("Weights and adapters on disk");
  for (const auto add :
       {add_info, add_compare, add_extract, add_resize, add_combine, add_merge, add_verify}) {
    add(weights);
  }
  const auto others = flags.under("Data and machine");
  for (const auto add : {add_data, add_doctor}) add(others);
  flags.footer(kExamples);
}

}  // namespace lowrank::cli
