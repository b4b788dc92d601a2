#include <ATen/ATen.h>
#include <fmt/format.h>
#include <lowrank/error.h>
#include <lowrank/io/atomic_file.h>
#include <lowrank/io/json.h>
#include <lowrank/io/json_difference.h>
#include <lowrank/report/table.h>
#include <lowrank/version.h>

#include <algorithm>
#include <charconv>
#include <memory>
#include <system_error>
#include <utility>

#include "adapter_checks.h"
#include "commands.h"
#include "evaluation_report.h"
#include "lora_flags.h"
#include "runs.h"
#include "training_flags.h"

// The notebook from end to end: pretraining, evaluation, LoRA on one digit, the checks, evaluation
// with LoRA on and off.
namespace lowrank::cli {
namespace {

using Json = nlohmann::ordered_json;
namespace fs = std::filesystem;

struct MnistCommand {
  CommonOptions common;
  RunFolder folder;
  std::string data = "mnist";
  std::string digit = "2";  // or "worst"
  int64_t epochs = 1;
  FinetuneRun finetune;

  MnistCommand() {
    finetune.lora = {.rank = 1, .alpha = 1, .init = LoraInit::kNormal};
    finetune.train.steps = 200;  // what cuts the digit's mistakes to a third, with some to spare
  }
};

constexpr auto kExamples = R"(Examples:
  lowrank mnist --digit 2 --out run/
  lowrank mnist --digit worst --seed 1 --out run/ --force
  lowrank mnist --resume run/)";

constexpr const char* kRunFile = "run.json";
constexpr const char* kReportFile = "report.json";

Json identity_of(const MnistCommand& command, const Resources& resources) {
  Json json;
  json["seed"] = command.common.seed;
  json["threads"] = resources.threads;
  json["device"] = resources.device.is_cuda() ? "cuda" : "cpu";
  json["dtype"] = command.common.dtype;
  json["data"] = command.data;
  json["digit"] = command.digit;
  json["epochs"] = command.epochs;
  json["steps"] = command.finetune.train.steps;
  json["lora"] = to_json(command.finetune.lora);
  return json;
}

void take_run(const Flags& flags, MnistCommand& command, const fs::path& folder) {
  const auto run = read_json_file(folder / kRunFile);
  try {
    take_common(flags, command.common, run);
    take_unless_given(flags, "--data", command.data, run.at("data"));
    take_unless_given(flags, "--digit", command.digit, run.at("digit"));
    take_unless_given(flags, "--epochs", command.epochs, run.at("epochs"));
    take_unless_given(flags, "--steps", command.finetune.train.steps, run.at("steps"));
    take_lora(flags, command.finetune.lora, run.at("lora"));
  } catch (const nlohmann::json::exception&) {
    fail<FileError>("resume",
                    fmt::format("\"{}\" must hold a run's options", (folder / kRunFile).string()),
                    to_text(run, -1).substr(0, 80));
  }
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

int64_t worst_class(const Evaluation& evaluation) {
  const auto& wrong = evaluation.wrong_by_class;
  return std::max_element(wrong.begin(), wrong.end()) - wrong.begin();
}

/// The notebook's run, step by step; each step prints what it did.
class Notebook {
 public:
  Notebook(MnistCommand& command, fs::path folder, const Resources& resources)
      : command_(command), folder_(std::move(folder)), resources_(resources) {}

  /// Reads the data and refuses what cannot work, before anything is written.
  void prepare() {
    train_ = load_image_dataset(command_.data, Split::kTrain);
    test_ = load_image_dataset(command_.data, Split::kTest);
    base_run_.common = command_.common;
    base_run_.data = command_.data;
    base_run_.sizes.front() = train_.images.size(1) * train_.images.size(2);
    base_run_.train.epochs = command_.epochs;
    base_run_.train.seed = command_.common.seed;
    check(base_run_.train);
    check(command_.finetune.train);
    models::Mlp trial(models::MlpOptions{.sizes = base_run_.sizes});
    attach(*trial, command_.finetune.lora);
    if (const auto digit = digit_of(command_.digit)) indices_of_class(train_, *digit);
  }

  /// Whether all checks hold.
  bool operator()() {
    show_data();
    pretrain();
    evaluate_base();
    attach_and_finetune();
    run_checks();
    evaluate_adapted();
    write_report();
    return std::all_of(checks_.begin(), checks_.end(), [](const Check& check) { return check.ok; });
  }

 private:
  template <class... Args>
  void say(fmt::format_string<Args...> format, Args&&... args) const {
    if (!command_.common.json) fmt::print("{}\n", fmt::format(format, std::forward<Args>(args)...));
  }
  void heading(const std::string& text) const { say("== {} ==", text); }

  RunContext context(const fs::path& folder) const {
    std::error_code none;
    return {.folder = folder,
            .resume_folder = folder_,
            .resume = fs::exists(checkpoint_of(folder), none),
            .quiet = command_.common.quiet,
            .resources = resources_};
  }

  void show_data() const {
    heading("Data");
    say("{}: {} training and {} test images of {} x {}.\n", train_.name,
        with_thousands(train_.size()), with_thousands(test_.size()), train_.images.size(1),
        train_.images.size(2));
  }

  void pretrain() {
    heading("Pretraining");
    const auto folder = folder_ / "base";
    if (fs::exists(folder / "model.safetensors") && !fs::exists(checkpoint_of(folder))) {
      classifier_ = std::make_unique<models::ImageClassifier>(load_base(folder, resources_));
      say("Read the finished base from {}.", folder.string());
    } else {
      at::manual_seed(command_.common.seed);
      auto result = train_base(base_run_, train_, context(folder));
      classifier_ = std::make_unique<models::ImageClassifier>(result.classifier);
      seconds_["pretraining"] = result.training.seconds;
      say("{} steps of {} images, {:.1f} a second.", with_thousands(result.training.steps),
          base_run_.train.batch_size, result.training.steps_per_second);
    }
    if (!command_.common.json) print_parameters(*classifier_->model, nullptr);
    pretraining_ = read_json_file(folder / "training.json").at("result");
  }

  void evaluate_base() {
    base_logits_ = logits_of(*classifier_, test_, resources_);
    base_ = evaluate(base_logits_, test_);
    sums_before_ = parameter_sums(*classifier_->model);
    if (!command_.common.json) print_evaluation("Base", base_);
    digit_ = digit_of(command_.digit).value_or(worst_class(base_));
  }

  void attach_and_finetune() {
    auto& run = command_.finetune;
    run.common = command_.common;
    run.base = "../base";  // from the adapter's folder: the same wherever the run lies
    run.data = command_.data;
    run.only = digit_;
    run.train.seed = command_.common.seed;
    heading(fmt::format("LoRA on the digit {}", digit_));
    const auto folder = folder_ / "adapter";
    auto result = finetune(run, *classifier_, train_, context(folder));
    adapter_ = std::make_unique<Adapter>(result.adapter);
    counts_ = count_parameters(*classifier_->model, adapter_.get());
    seconds_["finetuning"] = result.training.seconds;
    finetuning_ = to_json(result.training, /*with_times=*/false);
    if (!command_.common.json) print_parameters(*classifier_->model, adapter_.get());
    say("{} steps, {:.1f} a second, on {} images of the digit {}.\n", result.training.steps,
        result.training.steps_per_second,
        with_thousands(class_counts(train_)[static_cast<size_t>(digit_)]), digit_);
  }

  void run_checks() {
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
    checks_.push_back({"digit_mended", after < before,
                       fmt::format("mistakes on the digit {}: {} before, {} with LoRA on", digit_,
                                   before, after)});
    heading("Checks");
    for (const auto& check : checks_) {
      say("{} {}: {}", check.ok ? "ok  " : "FAIL", check.name, check.detail);
    }
    say("");
  }

  void evaluate_adapted() {
    if (command_.common.json) return;
    heading("LoRA on, LoRA off");
    print_evaluation("LoRA on", on_);
    print_evaluation("LoRA off", off_);
  }

  void write_report() {
    Json report;
    report["seed"] = command_.common.seed;
    report["threads"] = resources_.threads;
    report["device"] = resources_.device.is_cuda() ? "cuda" : "cpu";
    report["dtype"] = command_.common.dtype;
    report["versions"] = {{"lowrank", version()}, {"libtorch", libtorch_version()}};
    report["data"] = test_.name;
    report["digit"] = digit_;
    report["steps"] = command_.finetune.train.steps;
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
      report["checks"].push_back(
          {{"name", check.name}, {"ok", check.ok}, {"detail", check.detail}});
    }
    report["seconds"] = seconds_;
    write_file_atomically(folder_ / kReportFile, to_text(report) + "\n");
    if (command_.common.json) {
      fmt::print("{}\n", to_text(report));
    } else {
      fmt::print("The base is in {}, the adapter in {}, all figures in {}.\n",
                 (folder_ / "base").string(), (folder_ / "adapter").string(),
                 (folder_ / kReportFile).string());
    }
  }

  MnistCommand& command_;
  fs::path folder_;
  Resources resources_;
  BaseRun base_run_;
  ImageDataset train_, test_;
  std::unique_ptr<models::ImageClassifier> classifier_;
  std::unique_ptr<Adapter> adapter_;
  ParameterCounts counts_;
  at::Tensor base_logits_, on_logits_, off_logits_;
  Evaluation base_, on_, off_;
  std::map<std::string, std::string> sums_before_;
  std::map<std::string, double> seconds_;
  Json pretraining_, finetuning_;
  std::vector<Check> checks_;
  int64_t digit_ = 0;
};

/// A new run starts from nothing: only what an earlier run wrote here is removed.
void clear_run(const fs::path& folder) {
  for (const char* name : {"base", "adapter", kReportFile, kRunFile}) {
    fs::remove_all(folder / name);
  }
}

void run_mnist(const Flags& flags, MnistCommand& command) {
  const fs::path folder = command.folder.folder("mnist");
  const bool resume = !command.folder.resume.empty();
  if (resume) take_run(flags, command, folder);
  digit_of(command.digit);
  const auto resources = apply_common_options(command.common);
  Notebook notebook(command, folder, resources);
  notebook.prepare();
  if (resume) {
    const auto file = folder / kRunFile;
    require_same_options<ArgumentError>(read_json_file(file), identity_of(command, resources),
                                        file.string());
  } else {
    require_writable_output(folder, command.common.force);
    clear_run(folder);
    write_file_atomically(folder / kRunFile, to_text(identity_of(command, resources)) + "\n");
  }
  if (notebook()) return;
  throw Error("[mnist] every check must hold. Got a failure; see the lines marked FAIL.");
}

}  // namespace

void add_mnist(const Flags& flags) {
  auto command = std::make_shared<MnistCommand>();
  const auto mnist = flags.command(
      "mnist", "The LoRA notebook from end to end: pretrain, adapt to one digit, prove it");
  mnist.option("--digit", &command->digit, "The digit to mend: 0 to 9, or worst")
      .type_name("DIGIT")
      .shows_default();
  mnist.option("--data", &command->data, "mnist, or a folder in MNIST's layout").shows_default();
  mnist.option("--epochs", &command->epochs, "Epochs of pretraining").shows_default();
  mnist.option("--steps", &command->finetune.train.steps, "Steps of fine-tuning").shows_default();
  add_run_folder(mnist, command->folder);
  add_lora_flags(mnist, command->finetune.lora);
  add_common_options(mnist, command->common);
  mnist.footer(kExamples);
  mnist.action([mnist, command] { run_mnist(mnist, *command); });
}

}  // namespace lowrank::cli
