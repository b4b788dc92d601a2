#pragma once

#include <fmt/format.h>
#include <lowrank/adapter/adapter.h>

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "app/reports/evaluation_report.h"
#include "app/runs/adapter_checks.h"
#include "app/runs/runs.h"
#include "app/runs/unfinished.h"
#include "app/terminal/message.h"

/// The LoRA notebook from end to end: pretraining, evaluation, LoRA on one digit, the checks; then
/// LoRA with replay, which keeps the other digits, and both side by side.
namespace lowrank::app {

constexpr const char* kNotebookRun = "run.json";
constexpr const char* kNotebookReport = "report.json";

struct NotebookRun {
  NotebookRun();

  CommonOptions common;
  std::string data = "mnist";
  std::string digit = "2";  // or "worst"
  int64_t epochs = 1;
  double replay = 0;  // share of each batch from other digits, in the second of the two ways
  FinetuneRun finetune;
};

/// Returns the options that decide a run's results, which are kept in kNotebookRun.
nlohmann::ordered_json identity(const NotebookRun& run, const Resources& resources);

/// Returns 0 to 9, or nullopt for "worst". Throws ArgumentError for anything else.
std::optional<int64_t> digit_of(const std::string& text);

/// The notebook's run, step by step; each step prints what it did.
class Notebook {
 public:
  /// Writes to `folder`. `out` is the folder that messages name, in which the files end up.
  Notebook(NotebookRun& run, std::filesystem::path folder, std::filesystem::path out,
           const Resources& resources)
      : run_(run), folder_(std::move(folder)), out_(std::move(out)), resources_(resources) {}

  /// Reads the data and refuses options that cannot work, before anything is written.
  void prepare();
  /// Runs all steps; returns whether all checks hold.
  bool operator()();

 private:
  template <class... Args>
  void say(fmt::format_string<Args...> format, Args&&... args) const {
    if (!run_.common.json) print_text(fmt::format(format, std::forward<Args>(args)...));
  }
  void heading(const std::string& text) const;
  RunContext context(const std::filesystem::path& folder, const char* part) const;
  void show_data() const;
  void pretrain();
  void evaluate_base();
  FinetuneResult adapt(const char* part, double replay);
  void adapt_to_the_digit_alone();
  void run_checks();
  void adapt_with_replay();
  void show_both_ways() const;
  void show_images() const;
  void write_report();

  NotebookRun& run_;
  std::filesystem::path folder_, out_;
  Resources resources_;
  BaseRun base_run_;
  Dataset train_, test_;
  Base base_model_;
  std::unique_ptr<Adapter> adapter_;
  ParameterCounts counts_;
  at::Tensor base_logits_, on_logits_, off_logits_, replay_logits_;
  Evaluation base_, on_, off_, replayed_;
  std::map<std::string, std::string> sums_before_;
  std::map<std::string, double> seconds_;
  nlohmann::ordered_json pretraining_, finetuning_, replaying_;
  std::vector<Check> checks_;
  int64_t digit_ = 0;
};

}  // namespace lowrank::app
