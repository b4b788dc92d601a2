#include "app/runs/notebook.h"

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <lowrank/adapter/config_fields.h>
#include <lowrank/error.h>
#include <lowrank/io/atomic_file.h>
#include <lowrank/io/json.h>
#include <lowrank/version.h>

#include <algorithm>
#include <charconv>
#include <system_error>
#include <utility>

#include "app/terminal/table.h"

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
  finetune.train.steps = 200;  // enough to cut the digit's mistakes to a third, and some more
}

Json identity(const NotebookRun& run, const app::Resources& resources) {
  auto json = to_json(run.common, resources);
  json["data"] = run.data;
  json["digit"] = run.digit;
  json["epochs"] = run.epochs;
  json["steps"] = run.finetune.train.steps;
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
  train_ = load_image_dataset(run_.data, Split::kTrain);
  test_ = load_image_dataset(run_.data, Split::kTest);
  base_run_.common = run_.common;
  base_run_.data = run_.data;
  base_run_.sizes.front() = train_.images.size(1) * train_.images.size(2);
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
  attach_and_finetune();
  run_checks();
  evaluate_adapted();
  write_report();
  return std::all_of(checks_.begin(), checks_.end(), [](const Check& check) { return check.ok; });
}

void Notebook::heading(const std::string& text) const { say("== {} ==", text); }

RunContext Notebook::context(const fs::path& folder) const {
  std::error_code none;
  return {.folder = folder,
          .resume_folder = folder_,
          .resume = fs::exists(checkpoint_of(folder), none),
          .quiet = run_.common.quiet,
          .resources = resources_};
}

void Notebook::show_data() const {
  heading("Data");
  say("{}: {} training and {} test images of {} x {}.\n", train_.name,
      with_thousands(train_.size()), with_thousands(test_.size()), train_.images.size(1),
      train_.images.size(2));
}

void Notebook::pretrain() {
  heading("Pretraining");
  const auto folder = folder_ / "base";
  if (fs::exists(folder / "model.safetensors") && !fs::exists(checkpoint_of(folder))) {
    classifier_ = std::make_unique<ImageClassifier>(load_base(folder, resources_));
    say("Read the finished base from {}.", folder.string());
  } else {
    at::manual_seed(run_.common.seed);
    auto result = train_base(base_run_, train_, context(folder));
    classifier_ = std::make_unique<ImageClassifier>(result.classifier);
    seconds_["pretraining"] = result.training.seconds;
    say("{} steps of {} images, {:.1f} a second.", with_thousands(result.training.steps),
        base_run_.train.batch_size, result.training.steps_per_second);
  }
  if (!run_.common.json) print_parameters(*classifier_->model, nullptr);
  pretraining_ = read_json_file(folder / "training.json").at("result");
}

void Notebook::evaluate_base() {
  base_logits_ = logits_of(*classifier_, test_, resources_);
  base_ = evaluate(base_logits_, test_);
  sums_before_ = parameter_sums(*classifier_->model);
  if (!run_.common.json) print_evaluation("Base", base_);
  digit_ = digit_of(run_.digit).value_or(worst_class(base_));
}

void Notebook::attach_and_finetune() {
  auto& finetuning = run_.finetune;
  finetuning.common = run_.common;
  finetuning.base = "../base";  // relative to the adapter's folder, so that the run can be moved
  finetuning.data = run_.data;
  finetuning.only = digit_;
  finetuning.train.seed = run_.common.seed;
  heading(fmt::format("LoRA on the digit {}", digit_));
  const auto folder = folder_ / "adapter";
  auto result = finetune(finetuning, *classifier_, train_, context(folder));
  adapter_ = std::make_unique<Adapter>(result.adapter);
  counts_ = count_parameters(*classifier_->model, adapter_.get());
  seconds_["finetuning"] = result.training.seconds;
  finetuning_ = to_json(result.training, /*with_times=*/false);
  if (!run_.common.json) print_parameters(*classifier_->model, adapter_.get());
  say("{} steps, {:.1f} a second, on {} images of the digit {}.\n", result.training.steps,
      result.training.steps_per_second,
      with_thousands(class_counts(train_)[static_cast<size_t>(digit_)]), digit_);
}

void Notebook::run_checks() {
  on_logits_ = logits_of(*classifier_, test_, resources_);
  on_ = evaluate(on_logits_, test_);
  {
    const DisableAdapter disabled(*adapter_);
    off_logits_ = logits_of(*classifier_, test_, resources_);
  }
  off_ = evaluate(off_logits_, test_);
  Checked checked{*classifier_, *adapter_,    &test_,           base_logits_,        on_logits_,
                  off_logits_,  sums_before_, folder_ / "base", folder_ / "adapter", resources_};
  checks_ = check_adapter(checked);
  const auto digit = static_cast<size_t>(digit_);
  const auto before = base_.wrong_by_class[digit];
  const auto after = on_.wrong_by_class[digit];
  checks_.push_back(
      {"digit_mended", after < before,
       fmt::format("mistakes on the digit {}: {} before, {} with LoRA on", digit_, before, after)});
  heading("Checks");
  for (const auto& check : checks_) {
    say("{} {}: {}", check.ok ? "ok  " : "FAIL", check.name, check.detail);
  }
  say("");
}

void Notebook::evaluate_adapted() {
  if (run_.common.json) return;
  heading("LoRA on, LoRA off");
  print_evaluation("LoRA on", on_);
  print_evaluation("LoRA off", off_);
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
  report["evaluations"] = {
      {"base", to_json(base_)}, {"lora_on", to_json(on_)}, {"lora_off", to_json(off_)}};
  report["checks"] = Json::array();
  for (const auto& check : checks_) {
    report["checks"].push_back({{"name", check.name}, {"ok", check.ok}, {"detail", check.detail}});
  }
  report["seconds"] = seconds_;
  write_file_atomically(folder_ / kNotebookReport, to_text(report) + "\n");
  if (run_.common.json) {
    fmt::print("{}\n", to_text(report));
  } else {
    fmt::print("The base is in {}, the adapter in {}, all figures in {}.\n",
               (folder_ / "base").string(), (folder_ / "adapter").string(),
               (folder_ / kNotebookReport).string());
  }
}

}  // namespace lowrank::app
