#include <fmt/format.h>
#include <lowrank/error.h>
#include <lowrank/io/atomic_file.h>
#include <lowrank/io/json.h>

#include <memory>
#include <system_error>

#include "app/runs/notebook.h"
#include "app/train/json_difference.h"
#include "cli/commands/commands.h"
#include "cli/flags/common_flags.h"
#include "cli/flags/lora_flags.h"
#include "cli/flags/training_flags.h"

namespace lowrank::cli {
namespace {

namespace fs = std::filesystem;

struct MnistCommand {
  app::NotebookRun run;
  RunFolder folder;
};

constexpr auto kMnistExamples = R"(Examples:
  lowrank mnist --digit 2 --out run/
  lowrank mnist --digit worst --seed 1 --out run/ --force
  lowrank mnist --resume run/)";

void restore_run(const Flags& flags, MnistCommand& command, const fs::path& folder) {
  const auto run = read_ordered_json_file(folder / app::kNotebookRun);
  try {
    restore_common(flags, command.run.common, run);
    restore_unless_given(flags, "--data", command.run.data, run.at("data"));
    restore_unless_given(flags, "--digit", command.run.digit, run.at("digit"));
    restore_unless_given(flags, "--epochs", command.run.epochs, run.at("epochs"));
    restore_unless_given(flags, "--steps", command.run.finetune.train.steps, run.at("steps"));
    restore_lora(flags, command.run.finetune.lora, run.at("lora"), folder / app::kNotebookRun);
  } catch (const nlohmann::json::exception&) {
    fail<FileError>(
        "resume",
        fmt::format("\"{}\" must hold a run's options", (folder / app::kNotebookRun).string()),
        to_text(run, -1).substr(0, 80));
  }
}

/// Removes what an earlier run wrote here, and nothing else, so that a new run starts from scratch.
void clear_run(const fs::path& folder) {
  for (const char* name : {"base", "adapter", app::kNotebookReport, app::kNotebookRun}) {
    fs::remove_all(folder / name);
  }
}

void run_mnist(const Flags& flags, MnistCommand& command) {
  const fs::path folder = command.folder.folder("mnist");
  const bool resume = !command.folder.resume.empty();
  if (resume) restore_run(flags, command, folder);
  app::digit_of(command.run.digit);
  const auto resources = app::apply_common_options(command.run.common);
  app::Notebook notebook(command.run, folder, resources);
  notebook.prepare();
  if (resume) {
    const auto file = folder / app::kNotebookRun;
    app::require_same_options<ArgumentError>(read_json_file(file), identity(command.run, resources),
                                             file.string());
  } else {
    require_writable_output(folder, command.run.common.force);
    clear_run(folder);
    write_file_atomically(folder / app::kNotebookRun,
                          to_text(identity(command.run, resources)) + "\n");
  }
  if (notebook()) return;
  throw Error("[mnist] every check must hold. Got a failure; see the lines marked FAIL.");
}

}  // namespace

void add_mnist(const Flags& flags) {
  auto command = std::make_shared<MnistCommand>();
  const auto mnist = flags.command("mnist", "Run the LoRA notebook: pretrain, adapt, check");
  mnist.option("--digit", &command->run.digit, "Digit to improve: 0 to 9, or worst")
      .type_name("DIGIT")
      .shows_default();
  mnist.option("--data", &command->run.data, "Data set: mnist, or a folder in MNIST's layout")
      .shows_default();
  mnist.option("--epochs", &command->run.epochs, "Epochs of pretraining").shows_default();
  mnist.option("--steps", &command->run.finetune.train.steps, "Steps of fine-tuning")
      .shows_default();
  add_run_folder(mnist, command->folder);
  add_lora_flags(mnist, command->run.finetune.lora);
  add_common_flags(mnist, command->run.common);
  mnist.footer(kMnistExamples);
  mnist.action([mnist, command] { run_mnist(mnist, *command); });
}

}  // namespace lowrank::cli
