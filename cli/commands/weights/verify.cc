#include <fmt/format.h>
#include <lowrank/error.h>
#include <lowrank/io/json.h>
#include <lowrank/weights/merge.h>

#include <memory>

#include "app/models/weights_file.h"
#include "app/terminal/message.h"
#include "app/terminal/progress.h"
#include "app/terminal/table.h"
#include "cli/commands/commands.h"
#include "cli/flags/common_flags.h"

namespace lowrank::cli {
namespace {

struct VerifyCommand {
  app::CommonOptions common;
  std::string base, merged;
  std::vector<std::string> adapters;
  CheckpointMergeOptions options;
};

constexpr auto kVerifyExamples = R"(Examples:
  lowrank verify base/ merged/ --adapters adapter/)";

void run_verify(VerifyCommand& command) {
  app::apply_common_options(command.common);
  const auto base = app::open_weights(command.base), merged = app::open_weights(command.merged);
  const auto count = static_cast<int64_t>(base.names().size());
  std::vector<VerifiedTensor> wrong;
  {
    app::Progress progress("verify", 0, "tensors", command.common.quiet);
    command.options.on_tensor = progress.counter();
    wrong = verify_merge(base, {command.adapters.begin(), command.adapters.end()}, merged,
                         command.options);
    progress.finish();
  }
  if (command.common.json) {
    nlohmann::ordered_json json = {{"tensors", count}, {"wrong", nlohmann::ordered_json::array()}};
    for (const auto& tensor : wrong) {
      json["wrong"].push_back(
          {{"name", tensor.name}, {"numbers", tensor.wrong}, {"largest", tensor.largest}});
    }
    fmt::print("{}\n", to_text(json));
  } else if (wrong.empty()) {
    app::print_text(
        fmt::format("All {} are those of the merge, bit for bit.", app::counted(count, "tensor")));
  } else {
    app::Table table({"tensor", "wrong numbers", "largest difference"});
    for (const auto& tensor : wrong) {
      table.add(
          {tensor.name, app::with_thousands(tensor.wrong), fmt::format("{:.4g}", tensor.largest)});
    }
    fmt::print("{}", table.text(app::terminal_width(stdout)));
  }
  if (wrong.empty()) return;
  fail<FileError>("verify",
                  fmt::format("\"{}\" must be \"{}\" with the adapters merged into it",
                              command.merged, command.base),
                  app::counted(static_cast<int64_t>(wrong.size()), "tensor") + " that differ");
}

}  // namespace

void add_verify(const Flags& flags) {
  auto command = std::make_shared<VerifyCommand>();
  const auto verify =
      flags.command("verify", "Check that a model is a base with adapters merged into it");
  verify.option("base", &command->base, "The base").type_name("BASE").required();
  verify.option("merged", &command->merged, "The merged model").type_name("MERGED").required();
  add_adapters_flag(verify, command->adapters);
  verify.option("--prefix", &command->options.prefix,
                "Text before the adapters' names, as transformer. for GPT-2's files");
  add_common_flags(verify, command->common,
                   {.seed = false, .force = false, .device = false, .dtype = false});
  verify.footer(kVerifyExamples);
  verify.action([command] { run_verify(*command); });
}

}  // namespace lowrank::cli
