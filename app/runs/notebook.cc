#include "app/runs/notebook.h"

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <lowrank/adapter/config_fields.h>
#include <lowrank/error.h>
#include <lowrank/io/atomic_file.h>
#include <lowrank/io/json.h>
#include <lowrank/io/printable.h>
#include <lowrank/version.h>

#include <algorithm>
#include <charconv>
#include <system_error>
#include <utility>

#include "app/terminal/table.h"
#include "app/terminal/terminal_image.h"

namespace lowrank::app {
namespace {

using Json = nlohmann::ordered_json;
namespace fs = std::filesystem;

int64_t worst_class(const Evaluation& evaluation) {
  const auto& wrong = evaluation.wrong_by_class;
  return std::max_element(wrong.begin(), wrong.end()) - wrong.begin();
}

}  // namespace

NotebookRun::NotebookRun() {
  finetune.lora = {.rank = 1, .alpha = 1, .init = LoraInit::kNormal};
  finetune.train.steps = 100;  // as in the notebook
  replay = 0.5;
}

Json identity(const NotebookRun& run, const app::Resources& resources) {
  auto json = to_json(run.common, resources);
  json["data"] = run.data;
  json["digit"] = run.digit;
  json["epochs"] = run.epochs;
  json["steps"] = run.finetune.train.steps;
  json["replay"] = run.replay;
  json["lora"] = to_json(run.finetune.lora);
  return json;
}

std::optional<int64_t> digit_of(const std::string& text) {
  if (text == "worst") return std::nullopt;
  int64_t digit = -1;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), digit);
  if (error != std::errc() || end != text.data() + text.size() || digit < 0 || digit > 9) {
    fail<ArgumentError>("mnist", "--digit must be 0 to 9, or worst", fmt::format("\"{}\"", text));
  }
  return digit;
}

void Notebook::prepare() {
  train_ = load_dataset(run_.data, Split::kTrain);
  test_ = load_dataset(run_.data, Split::kTest);
  base_run_.common = run_.common;
  base_run_.data.source.data = run_.data;
  base_run_.sizes.front() = train_.values();
  base_run_.train.epochs = run_.epochs;
  base_run_.train.seed = run_.common.seed;
  check(base_run_.train);
  check(run_.finetune.train);
  Mlp trial(MlpOptions{.sizes = base_run_.sizes});
  attach(*trial, run_.finetune.lora);
  if (const auto digit = digit_of(run_.digit)) indices_of_class(train_, *digit);
}

bool Notebook::operator()() {
  show_data();
  pretrain();
  evaluate_base();
  adapt_to_the_digit_alone();
  run_checks();
  adapt_with_replay();
  show_both_ways();
  show_images();
  write_report();
  return std::all_of(checks_.begin(), checks_.end(), [](const Check& check) { return check.ok; });
}

void Notebook::heading(const std::string& text) const {
  say("== {} ==", text);
  std::fflush(stdout);  // before the progress that follows, also in a pipe
}

RunContext Notebook::context(const fs::path& folder, const char* part) const {
  std::error_code none;
  return {.folder = folder,
          .title = std::string("mnist, ") + part,
          .command = "mnist",
          .resume_folder = out_,
          .resume = fs::exists(checkpoint_of(folder), none),
          .quiet = run_.common.quiet,
          .resources = resources_,
          .held_out = &test_};
}

void Notebook::show_data() const {
  heading("Data");
  say("{}: {} training and {} test images of {} x {}.\n", train_.name,
      with_thousands(train_.size()), with_thousands(test_.size()), train_.inputs.size(1),
      train_.inputs.size(2));
}

void Notebook::pretrain() {
  heading("Pretraining");
  const auto folder = folder_ / "base";
  if (fs::exists(folder / "model.safetensors") && !fs::exists(checkpoint_of(folder))) {
    base_model_ = load_base(folder, resources_);
    say("Read the finished base from {}.", folder.string());
  } else {
    at::manual_seed(run_.common.seed);
    auto result = train_base(base_run_, train_, context(folder, "base"));
    base_model_ = Base(result.trained);
    seconds_["pretraining"] = result.training.seconds;
    say("{} steps of {} images, {:.1f} a second; mean loss {:.4f}.",
        with_thousands(result.training.steps), base_run_.train.batch_size,
        result.training.steps_per_second, result.training.mean_loss);
  }
  if (!run_.common.json) print_parameters(*base_model_.model.mlp(), nullptr);
  pretraining_ = read_json_file(folder / "training.json").at("result");
}

void Notebook::evaluate_base() {
  base_logits_ = outputs_of(base_model_, test_, resources_);
  base_ = evaluate(base_logits_, test_);
  sums_before_ = parameter_sums(*base_model_.model.mlp());
  if (!run_.common.json) print_evaluation("Base", base_);
  say("");
  digit_ = digit_of(run_.digit).value_or(worst_class(base_));
}

/// Trains an adapter, which stays attached, and saves it in this folder.
FinetuneResult Notebook::adapt(const char* part, double replay) {
  auto finetuning = run_.finetune;
  finetuning.common = run_.common;
  finetuning.base = "../base";  // relative to the adapter's folder, so that the run can be moved
  finetuning.data.source.data = run_.data;
  finetuning.only = digit_;
  finetuning.train.seed = run_.common.seed;
  finetuning.train.replay = replay;
  auto result = finetune(finetuning, base_model_, train_, context(folder_ / part, part));
  say("{} steps, {:.1f} a second; mean loss {:.4f}.\n", result.training.steps,
      result.training.steps_per_second, result.training.mean_loss);
  return result;
}

void Notebook::adapt_to_the_digit_alone() {
  heading(fmt::format("LoRA on the digit {}, as in the notebook", digit_));
  say("The adapter learns from {} images of the digit {} and from nothing else.",
      with_thousands(class_counts(train_)[static_cast<size_t>(digit_)]), digit_);
  auto result = adapt("adapter", 0);
  adapter_ = std::make_unique<Adapter>(result.adapter);
  counts_ = count_parameters(*base_model_.model.mlp(), adapter_.get());
  seconds_["finetuning"] = result.training.seconds;
  finetuning_ = to_json(result.training, /*with_times=*/false);
  if (run_.common.json) return;
  std::vector<std::string> frozen, trained;
  for (const auto& item : base_model_.model.mlp()->named_parameters()) {
    if (!item.value().requires_grad()) frozen.push_back(item.key());
  }
  for (const auto& [name, factor] : adapter_->named_parameters()) trained.push_back(name);
  constexpr size_t kAll = 100;
  say("Frozen: {}.", list_names(frozen, kAll));
  say("Trained: {}.\n", list_names(trained, kAll));
  print_parameters(*base_model_.model.mlp(), adapter_.get());
}

void Notebook::adapt_with_replay() {
  adapter_->detach();
  heading(fmt::format("LoRA on the digit {}, with replay", digit_));
  say("The same again, but {:.0f} % of each batch come from the other digits (--replay {}).",
      100 * run_.replay, run_.replay);
  const auto result = adapt("replay", run_.replay);
  adapter_ = std::make_unique<Adapter>(result.adapter);
  seconds_["replaying"] = result.training.seconds;
  replaying_ = to_json(result.training, /*with_times=*/false);
  replay_logits_ = outputs_of(base_model_, test_, resources_);
  replayed_ = evaluate(replay_logits_, test_);
}

void Notebook::run_checks() {
  on_logits_ = outputs_of(base_model_, test_, resources_);
  on_ = evaluate(on_logits_, test_);
  {
    const DisableAdapter disabled(*adapter_);
    off_logits_ = outputs_of(base_model_, test_, resources_);
  }
  off_ = evaluate(off_logits_, test_);
  Checked checked{base_model_, *adapter_,    &test_,           base_logits_,        on_logits_,
                  off_logits_, sums_before_, folder_ / "base", folder_ / "adapter", resources_};
  checks_ = check_adapter(checked);
  const auto digit = static_cast<size_t>(digit_);
  const auto before = base_.wrong_by_class[digit];
  const auto after = on_.wrong_by_class[digit];
  checks_.push_back({"digit_mended", after < before,
                     fmt::format("the digit {} is recognised better", digit_),
                     fmt::format("{} mistakes before, {} with LoRA on", before, after)});
  heading("Checks of the first adapter");
  for (const auto& check : checks_) {
    say("{} {}: {}", check.ok ? "ok  " : "FAIL", check.meaning, check.detail);
  }
  say("");
}

void Notebook::show_both_ways() const {
  if (run_.common.json) return;
  heading(fmt::format("Mistakes on {} test images, digit by digit", with_thousands(test_.size())));
  Table table({"", "0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "all", "accuracy"});
  const auto add = [&](const std::string& name, const Evaluation& evaluation) {
    std::vector<std::string> row = {name};
    for (const auto wrong : evaluation.wrong_by_class) row.push_back(std::to_string(wrong));
    row.push_back(std::to_string(evaluation.total - evaluation.correct));
    row.push_back(fmt::format("{:.4f}", evaluation.accuracy()));
    table.add(row);
  };
  add("base", base_);
  add(fmt::format("LoRA on the {}s alone", digit_), on_);
  add("LoRA with replay", replayed_);
  add("LoRA off", off_);
  fmt::print("{}\n", table.text());
  say("An adapter that has only seen {}s mends the {}s and answers \"{}\" too often elsewhere.\n"
      "With replay it mends them and keeps the others. Switched off, the network is the\n"
      "base again, bit for bit.\n",
      digit_, digit_, digit_);
}

/// Shows images of the digit that the adapter with replay mended, and images that it broke.
void Notebook::show_images() const {
  if (run_.common.json) return;
  const auto right = [&](const at::Tensor& logits) { return logits.argmax(1).eq(test_.labels); };
  const auto before = right(base_logits_), after = right(replay_logits_);
  const auto base = base_logits_.argmax(1), now = replay_logits_.argmax(1);
  const auto show = [&](const char* what, const at::Tensor& which) {
    const auto indices = which.nonzero().flatten();
    if (indices.numel() == 0) return;
    std::vector<at::Tensor> images;
    std::string words;
    for (int64_t i = 0; i < std::min<int64_t>(2, indices.numel()); ++i) {
      const auto at = indices[i].item<int64_t>();
      images.push_back(test_.inputs[at]);
      words += fmt::format("{}image {} (a \"{}\"): \"{}\" before, \"{}\" with LoRA",
                           i > 0 ? "; " : "", at, test_.labels[at].item<int64_t>(),
                           base[at].item<int64_t>(), now[at].item<int64_t>());
    }
    say("{} ({} in all): {}", what, indices.numel(), words);
    fmt::print("{}\n", render_image(at::cat(images, 1), {.most_columns = 80}));
  };
  show("Mended by LoRA with replay", before.logical_not().logical_and(after));
  show("Broken by it", before.logical_and(after.logical_not()));
}

void Notebook::write_report() {
  auto report = to_json(run_.common, resources_);
  report["versions"] = {{"lowrank", version()}, {"libtorch", libtorch_version()}};
  report["data"] = test_.name;
  report["digit"] = digit_;
  report["steps"] = run_.finetune.train.steps;
  report["parameters"] = {{"base", counts_.base},
                          {"with_lora", counts_.base + counts_.lora},
                          {"lora", counts_.lora},
                          {"share_percent", counts_.share_percent()}};
  report["pretraining"] = pretraining_;
  report["finetuning"] = finetuning_;
  report["replaying"] = replaying_;
  report["evaluations"] = {{"base", to_json(base_)},
                           {"lora_on", to_json(on_)},
                           {"lora_off", to_json(off_)},
                           {"replay", to_json(replayed_)}};
  report["checks"] = Json::array();
  for (const auto& check : checks_) {
    report["checks"].push_back({{"name", check.name},
                                {"ok", check.ok},
                                {"meaning", check.meaning},
                                {"detail", check.detail}});
  }
  report["seconds"] = seconds_;
  write_file_atomically(folder_ / kNotebookReport, to_text(report) + "\n");
  if (run_.common.json) {
    fmt::print("{}\n", to_text(report));
  } else {
    const auto shown = [&](const char* name) { return printable((out_ / name).string()); };
    say("The base is in {}, the adapters in {} and {}, all figures in {}.", shown("base"),
        shown("adapter"), shown("replay"), shown(kNotebookReport));
  }
}

}  // namespace lowrank::app
