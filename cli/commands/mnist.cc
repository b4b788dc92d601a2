#include <fmt/format.h>
#include <lowrank/error.h>
#include <lowrank/io/atomic_file.h>
#include <lowrank/io/json.h>
#include <lowrank/io/json_difference.h>
#include <lowrank/io/printable.h>

#include <memory>
#include <system_error>

#include "app/pages/record_page.h"
#include "app/runs/figures.h"
#include "app/runs/folder_lock.h"
#include "app/runs/notebook.h"
#include "app/terminal/message.h"
#include "cli/commands/commands.h"
#include "cli/flags/common_flags.h"
#include "cli/flags/flag_names.h"
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
    restore_unless_given(flags, "--replay", command.run.replay, run.at("replay"));
    restore_lora(flags, command.run.finetune.lora, run.at("lora"), folder / app::kNotebookRun);
  } catch (const nlohmann::json::exception&) {
    fail<FileError>(
        "resume",
        fmt::format("\"{}\" must hold a run's options", (folder / app::kNotebookRun).string()),
        to_text(run, -1).substr(0, 80));
  }
}

/// Where a run writes while the folder still holds a finished one, which stands until the new one
/// is complete.
constexpr const char* kUnfinished = ".unfinished";

/// All files that a run writes, in the order in which they are published.
std::vector<fs::path> files_of_run() {
  std::vector<fs::path> files;
  for (const char* name :
       {"model.safetensors", "config.json", "training.json", "history.json", app::kFiguresFile}) {
    files.push_back(fs::path("base") / name);
  }
  for (const char* folder : {"adapter", "replay"}) {
    for (const char* name : {"adapter_model.safetensors", "adapter_config.json", "training.json",
                             "history.json", app::kFiguresFile}) {
      files.push_back(fs::path(folder) / name);
    }
  }
  files.emplace_back(app::kNotebookRun);
  files.emplace_back(app::kNotebookReport);
  files.emplace_back(app::kPageFile);
  return files;
}

/// Removes the folders of a run that are empty.
void remove_empty_folders(const fs::path& folder) {
  std::error_code none;
  for (const char* name : {"base", "adapter", "replay"}) fs::remove(folder / name, none);
}

/// Removes what an earlier run wrote here, file by file, and nothing else.
void clear_run(const fs::path& folder) {
  std::error_code none;
  for (const auto& file : files_of_run()) fs::remove(folder / file, none);
  for (const char* part : {"base", "adapter", "replay"}) {
    fs::remove(app::checkpoint_of(folder / part), none);
  }
  remove_empty_folders(folder);
}

/// Moves a complete run to its place. If this is interrupted, --resume goes on with it.
void publish_run(const fs::path& from, const fs::path& to) {
  for (const char* part : {"base", "adapter", "replay"}) fs::create_directories(to / part);
  for (const auto& file : files_of_run()) {
    if (fs::exists(from / file)) fs::rename(from / file, to / file);
  }
  remove_empty_folders(from);
  std::error_code none;
  fs::remove(from, none);
}

/// Writes the run's page. A machine without gnuplot gets a note: everything else is there.
void write_notebook_page(const fs::path& folder, const app::CommonOptions& options) {
  std::error_code none;
  fs::remove(folder / app::kPageFile, none);  // that of an older run
  try {
    app::write_page(folder);
  } catch (const Error& error) {
    app::print_message(fmt::format("note: there is no page with plots: {}", error.what()));
    return;
  }
  if (options.json) return;
  app::print_text(
      fmt::format("Plots and tables: {}", printable((folder / app::kPageFile).string())));
}

/// Does what require_writable_output() does, and tells of an interrupted run.
void require_new_run(const fs::path& folder, bool force) {
  const bool interrupted =
      fs::exists(folder / kUnfinished / app::kNotebookRun) ||
      (fs::exists(folder / app::kNotebookRun) && !fs::exists(folder / app::kNotebookReport));
  const auto go_on = fmt::format("{} mnist --resume {}", app::program_name(), folder.string());
  if (interrupted && force) {
    app::print_message(
        fmt::format("note: the interrupted run in {} is discarded. (To go on with "
                    "one instead: {})",
                    folder.string(), go_on));
  } else if (interrupted) {
    fail<FileError>(
        "output", fmt::format("\"{}\" must not exist yet, or be empty", folder.string()),
        "an interrupted run", fmt::format("Go on with: {} (or pass --force to start over)", go_on));
  }
  require_writable_output(folder, force);
}

void run_mnist(const Flags& flags, MnistCommand& command) {
  const fs::path folder = command.folder.folder("mnist");
  const bool resume = !command.folder.resume.empty();
  const auto unfinished = folder / kUnfinished;
  const bool beside_old = resume ? fs::exists(unfinished / app::kNotebookRun)
                                 : fs::exists(folder / app::kNotebookReport);
  const auto stage = beside_old ? unfinished : folder;
  if (resume) restore_run(flags, command, stage);
  app::digit_of(command.run.digit);
  const auto resources = app::apply_common_options(command.run.common);
  app::Notebook notebook(command.run, stage, folder, resources);
  notebook.prepare();
  if (!resume) require_new_run(folder, command.run.common.force);
  const app::FolderLock lock(folder);
  if (resume) {
    const auto file = stage / app::kNotebookRun;
    require_same_options<ArgumentError>(read_json_file(file), identity(command.run, resources),
                                        file.string());
  } else {
    clear_run(stage);
    write_file_atomically(stage / app::kNotebookRun,
                          to_text(identity(command.run, resources)) + "\n");
  }
  const bool ok = notebook();
  if (beside_old) publish_run(stage, folder);
  write_notebook_page(folder, command.run.common);
  if (ok) return;
  throw Error("[mnist] every check must hold. Got a failure; see the lines marked FAIL.");
}

}  // namespace

void add_mnist(const Flags& flags) {
  auto command = std::make_shared<MnistCommand>();
  const auto mnist =
      flags.command("mnist", "Train on MNIST, adapt to one digit, check the adapter");
  mnist.option("--digit", &command->run.digit, "Digit to improve: 0 to 9, or worst (most mistakes)")
      .type_name("DIGIT")
      .shows_default();
  mnist.option("--data", &command->run.data, "Data set: mnist, or a folder in MNIST's layout")
      .shows_default();
  mnist.option("--epochs", &command->run.epochs, "Epochs of pretraining").shows_default();
  mnist.option("--steps", &command->run.finetune.train.steps, "Steps of fine-tuning")
      .shows_default();
  mnist
      .option("--replay", &command->run.replay,
              "Share of each batch from the other digits, in the second way")
      .shows_default();
  add_run_folder(mnist, command->folder);
  add_lora_flags(mnist, command->run.finetune.lora);
  add_common_flags(mnist, command->run.common);
  mnist.footer(kMnistExamples);
  mnist.action(
      [mnist, command] { with_names_of_flags(mnist, [&] { run_mnist(mnist, *command); }); });
}

}  // namespace lowrank::cli
