#include <fmt/format.h>
#include <lowrank/error.h>
#include <lowrank/io/atomic_file.h>
#include <lowrank/io/json.h>
#include <lowrank/io/printable.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <memory>

#include "app/runs/figures.h"
#include "app/runs/input_protection.h"
#include "app/runs/run_record.h"
#include "app/runs/runs.h"
#include "app/runs/unfinished.h"
#include "app/terminal/message.h"
#include "app/terminal/table.h"
#include "cli/commands/commands.h"
#include "cli/flags/common_flags.h"
#include "cli/flags/data_flags.h"
#include "cli/flags/flag_names.h"
#include "cli/flags/lora_flags.h"
#include "cli/flags/training_flags.h"

namespace lowrank::cli {
namespace {

using Json = nlohmann::ordered_json;

struct FinetuneCommand {
  app::FinetuneRun run;
  RunFolder folder;
  std::string log_to;
  bool report = false;
  app::ProcessOptions processes;
  std::string only;  // the name or the number of a class
};

constexpr auto kFinetuneExamples = R"(Examples:
  lowrank finetune base/ --only 2 --rank 1 --alpha 1 --steps 100 --out two/
  lowrank finetune base/ --only 2 --replay 0.5 --steps 300 --out gentle/
  lowrank finetune base/ --adapter two/ --steps 100 --out more/
  lowrank finetune classifier.pt --data photos/ --resize 224,224 \
    --mean 0.485,0.456,0.406 --deviation 0.229,0.224,0.225 \
    --target-modules conv1,fc --out mine/
  lowrank finetune --resume two/)";

void restore_run(const Flags& flags, app::FinetuneRun& run, const Json& id,
                 const std::filesystem::path& folder) {
  require_shared_alike(id);
  restore_common(flags, run.common, id);
  restore_unless_given(flags, "base", run.base, id.at("base"));
  restore_data(flags, run.data, id);
  restore_unless_given(flags, "--mean", run.data.mean, id.value("mean", Json()));
  restore_unless_given(flags, "--deviation", run.data.deviation, id.value("deviation", Json()));
  if (!flags.given("--only") && !id.at("only").is_null()) run.only = id.at("only").get<int64_t>();
  restore_unless_given(flags, "--replay", run.train.replay, id.at("train").at("replay"));
  restore_training(flags, run.train, id.at("train"));
  restore_lora(flags, run.lora, id.at("lora"), app::checkpoint_of(folder));
  restore_unless_given(flags, "--adapter", run.adapter, id.value("adapter", Json()));
  restore_unless_given(flags, "--init-batches", run.init_batches, id.at("init_batches"));
  restore_unless_given(flags, "--lora-plus-ratio", run.lora_plus_ratio, id.at("lora_plus_ratio"));
}

/// A rank above min(in, out) is allowed, but gains nothing. The default is nobody's choice.
void warn_of_rank(const Flags& flags, const AdapterPlan& plan) {
  const bool is_chosen =
      flags.given("--rank") || flags.given("--rank-pattern") || flags.given("--config");
  if (!is_chosen) return;
  std::vector<std::string> above;
  for (const auto& layer : plan.layers) {
    const auto out = layer.shape.front(), in = layer.weights / std::max<int64_t>(1, out);
    if (layer.rank <= std::min(out, in)) continue;
    above.push_back(fmt::format("{} for {} ({} x {})", layer.rank, layer.name, out, in));
  }
  if (above.empty()) return;
  app::print_message(fmt::format(
      "warning: a rank above the smaller side of its layer costs time and gains nothing: rank {}.",
      list_names(above, 4)));
}

void print(const app::FinetuneResult& result, const app::FinetuneRun& run,
           const std::string& folder) {
  const auto parameters = result.adapter.parameter_count();
  if (run.common.json) {
    auto json = app::to_json(result.training, /*with_times=*/true);
    json["parameters"] = parameters;
    json["out"] = folder;
    fmt::print("{}\n", to_text(json));
    return;
  }
  const auto layers = static_cast<int64_t>(result.adapter.layers().size());
  app::print_text(fmt::format("Trained {} in {} for {} ({:.1f} a second); mean loss {:.4f}.{}",
                              app::counted(parameters, "parameter"), app::counted(layers, "layer"),
                              app::counted(result.training.steps, "step"),
                              result.training.steps_per_second, result.training.mean_loss,
                              app::words_on_result(result.training)));
  const auto path = std::filesystem::path(folder);
  app::print_text(fmt::format("Wrote {} and {}.",
                              printable((path / "adapter_model.safetensors").string()),
                              printable((path / "adapter_config.json").string())));
}

void check_options(const app::FinetuneRun& run) {
  check(run.train);
  check(run.data);
  check(run.lora);
  if (run.init_batches < 1 || run.init_batches > 1'000'000) {
    fail<ArgumentError>("finetune", "--init-batches must be 1 to 1000000",
                        fmt::format("{}", run.init_batches));
  }
  if (!(std::isfinite(run.lora_plus_ratio) && run.lora_plus_ratio > 0)) {
    fail<ArgumentError>("finetune", "--lora-plus-ratio must be finite and above 0",
                        fmt::format("{}", run.lora_plus_ratio));
  }
}

/// Returns the folder of the base that an interrupted run was trained on. A run of `lowrank mnist`
/// gives it relative to the adapter's folder, a run of `finetune` relative to the folder in which
/// the command was called.
std::filesystem::path base_of(const app::FinetuneRun& run, const std::filesystem::path& folder,
                              const std::string& sha256, const app::Resources& resources) {
  const std::filesystem::path called = run.base, beside = folder / called;
  std::error_code none;
  const bool lies_beside = std::filesystem::exists(beside / "model.safetensors", none) &&
                           app::load_base(beside, resources).model.fingerprint() == sha256;
  return lies_beside ? beside : called;
}

/// A run that is resumed has the adapter that it went on from.
void require_own_adapter(const std::string& given, const std::string& own,
                         const std::filesystem::path& folder) {
  if (given == own) return;
  fail<ArgumentError>(
      "finetune",
      own.empty()
          ? fmt::format("--adapter must be left out, because the run in \"{}\" began with a "
                        "new adapter",
                        folder.string())
          : fmt::format("--adapter must be \"{}\", as in \"{}\"", own, folder.string()),
      fmt::format("\"{}\"", given));
}

void require_same_base(const std::filesystem::path& place, const app::Base& base,
                       const std::string& sha256, bool is_given) {
  const auto found = base.model.fingerprint();
  if (found == sha256) return;
  fail<FileError>("resume",
                  fmt::format("the base \"{}\" must be the one that the run was started on, with "
                              "SHA-256 {:.12}",
                              place.string(), sha256),
                  fmt::format("one with SHA-256 {:.12}", found),
                  is_given ? "Leave the base out, or name that one."
                           : "It was replaced meanwhile: put the old one back, or start anew with "
                             "--force.");
}

/// Returns the number of the class that --only names, by its name or its number.
int64_t class_of(const std::string& only, const app::Dataset& data) {
  const auto& names = data.class_names;
  const auto named = std::find(names.begin(), names.end(), only);
  if (named != names.end()) return named - names.begin();
  int64_t number = -1;
  const auto [end, error] = std::from_chars(only.data(), only.data() + only.size(), number);
  if (error == std::errc() && end == only.data() + only.size()) return number;
  fail<ArgumentError>(
      "finetune",
      names.empty() ? std::string("--only must be the number of a class")
                    : fmt::format("--only must be a class of {}: {}", data.name, list_names(names)),
      fmt::format("\"{}\"", only), did_you_mean(only, names));
}

void run_finetune(const Flags& flags, FinetuneCommand& command) {
  auto& run = command.run;
  const auto folder = command.folder.folder("finetune");
  const bool resume = !command.folder.resume.empty();
  require_steps(flags, "finetune", run.train);
  complete_lora(flags, run.lora);
  check_options(run);
  check_report_flag(command.report, folder);
  std::string base_sha256, base_name, own_adapter;  // of the run that is resumed
  Json identity;
  start_processes(command.processes, run.common);
  if (resume) {
    app::with_checkpoint_identity(folder, "finetune", [&](const Json& id) {
      identity = id;
      own_adapter = id.value("adapter", std::string());
      restore_run(flags, run, id, folder);
      check(run.common);
      check_options(run);
      base_sha256 = id.at("base_sha256").get<std::string>();
      base_name = id.at("base").get<std::string>();
    });
    if (flags.given("--adapter")) require_own_adapter(run.adapter, own_adapter, folder);
  }
  if (run.base.empty()) {
    fail<ArgumentError>("finetune", "a base model must be given", "none");
  }
  if (flags.given("--adapter")) {
    require_no_lora_flags(flags,
                          "--adapter goes on from a finished adapter, whose config it keeps");
  }
  run.train.seed = run.common.seed;
  const auto resources = app::apply_common_options(run.common);
  const auto place = resume && !flags.given("base") ? base_of(run, folder, base_sha256, resources)
                                                    : std::filesystem::path(run.base);
  if (resume && !flags.given("base")) app::require_found_again(place);
  auto base = app::load_base(place, resources);
  if (resume) {
    require_same_base(place, base, base_sha256, flags.given("base"));
    run.base = base_name;  // the run's own name for it, from wherever it is resumed
  }
  if (!run.adapter.empty()) take_preparation(base, run.adapter);
  if (resume && !flags.given("--data")) app::require_found_again(run.data.source.data);
  const auto source = complete(run.data, base);
  auto data = app::load_dataset(source, app::Split::kTrain);
  if (resume) require_same_examples(identity, data);
  fit(base, data);
  const auto held_out = held_out_for_report(command.report, source, data.classes);
  if (!command.only.empty()) run.only = class_of(command.only, data);
  app::require_not_an_input(folder, {place.string(), run.adapter});
  const auto rank = app::rank_of_this_process().value_or(0);
  if (!resume && rank == 0) {
    app::require_new_log(command.log_to, run.common.force);
    app::require_new_run_folder(folder, run.common.force, app::FolderKind::kAdapter);
    if (run.adapter.empty()) warn_of_rank(flags, base.model.plan(run.lora));
  }
  note_normalization(base, data, run.data);
  const auto result = finetune(run, base, data,
                               {.folder = folder,
                                .title = "finetune",
                                .command = "finetune",
                                .log_to = command.log_to,
                                .resume = resume,
                                .quiet = run.common.quiet,
                                .resources = resources,
                                .group = app::join(command.processes),
                                .held_out = held_out ? &*held_out : nullptr});
  if (rank > 0) return;
  if (run.only && run.train.replay == 0) {
    app::print_message(fmt::format(
        "note: this adapter was trained on class {} alone, so it will probably answer \"{}\" too "
        "often for other classes; --replay 0.5 prevents that.",
        class_name(data, *run.only), class_name(data, *run.only)));
  }
  app::remove_other_records(folder, {app::kTrainingFile, app::kHistoryFile, app::kFiguresFile});
  print(result, run, folder);
  write_report(command.report, folder, run.common);
}

}  // namespace

void add_finetune(const Flags& flags) {
  auto command = std::make_shared<FinetuneCommand>();
  auto& run = command->run;
  const auto finetune = flags.command("finetune", "Train a LoRA adapter on a frozen base");
  finetune
      .option("base", &run.base,
              "Folder of the base, or a TorchScript file (--resume takes the run's)")
      .type_name("BASE");
  finetune.option("--adapter", &run.adapter, "Go on from this finished adapter, with its config")
      .type_name("DIR");
  finetune.option("--only", &command->only, "Train on this class only, by its name or number")
      .type_name("CLASS");
  finetune.option("--replay", &run.train.replay,
                  "Share of each batch taken from the other classes");
  add_run_folder(finetune, command->folder);
  add_log_flag(finetune, command->log_to);
  add_report_flag(finetune, command->report,
                  "Evaluate on the test half of the data, and write report.html");
  add_process_flags(finetune, command->processes);
  add_lora_flags(finetune, run.lora);
  finetune
      .option("--init-batches", &run.init_batches,
              "Batches that --init eva, corda and lora_ga look at")
      .shows_default();
  finetune
      .option("--lora-plus-ratio", &run.lora_plus_ratio,
              "Learning rate of B divided by that of A (LoRA+)")
      .shows_default();
  add_data_flags(finetune, run.data, "the base's");
  add_training_flags(finetune, run.train);
  add_common_flags(finetune, run.common);
  finetune.footer(kFinetuneExamples);
  finetune.action([finetune, command] {
    with_names_of_flags(finetune, [&] { run_finetune(finetune, *command); });
  });
}

}  // namespace lowrank::cli
