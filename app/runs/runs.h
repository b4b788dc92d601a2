#pragma once

#include <lowrank/adapter/adapter.h>
#include <lowrank/train/trainer.h>

#include <filesystem>
#include <functional>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "app/runs/base.h"
#include "app/runs/processes.h"
#include "app/runs/resources.h"

/// What `train`, `finetune` and `mnist` do after their flags are parsed. A run's identity is a JSON
/// text of everything that decides its result. It is stored in checkpoints, so that --resume can
/// take the options from there and refuse different ones.
namespace lowrank::app {

constexpr const char* kTrainingFile = "training.json";
constexpr const char* kHistoryFile = "history.json";

/// Where a run writes, and how.
struct RunContext {
  std::filesystem::path folder;
  std::string title;                         ///< of the progress bar
  std::string command = {};                  ///< "train": what goes on with the run
  std::filesystem::path resume_folder = {};  ///< the folder to give to its --resume
  std::filesystem::path log_to = {};         ///< folder of a RunLog; empty: none
  bool resume = false;
  bool quiet = false;
  Resources resources;
  std::shared_ptr<ProcessGroup> group = {};  ///< null: this process alone
  /// Examples to evaluate the trained model with, for the run's report; null: none.
  const Dataset* held_out = nullptr;

  /// Whether this process writes the results: rank 0 of a group does.
  bool writes() const { return group == nullptr || group->rank() == 0; }
};

struct BaseRun {
  CommonOptions common;
  DataOptions data = {.source = {.data = "mnist"}};
  std::vector<int64_t> sizes = {784, 1000, 2000, 10};
  Normalization normalization;
  TrainOptions train{.validation_batch_size = 1000};
};

struct FinetuneRun {
  CommonOptions common;
  std::string base;
  DataOptions data;             // see complete()
  std::optional<int64_t> only;  // the one class to train on
  std::string adapter;          // folder of a finished adapter to go on from; empty: a new one
  LoraConfig lora;              // of a new adapter
  int64_t init_batches = 32;    // how many of the first batches an initialisation from data sees
  double lora_plus_ratio = 1;   // learning rate of B divided by that of A
  TrainOptions train{.validation_batch_size = 1000};
};

/// `is_shared`: several processes may share the run.
nlohmann::ordered_json identity(const BaseRun& run, const Resources& resources, bool is_shared);
nlohmann::ordered_json identity(const FinetuneRun& run, const std::string& base_sha256,
                                const Resources& resources, bool is_shared);

struct BaseResult {
  TrainedMlp trained;
  TrainResult training;
};
/// Trains a multi-layer perceptron and writes it to the context's folder, with training.json and
/// history.json beside it. No other command can write to the folder meanwhile (FolderLock).
BaseResult train_base(const BaseRun& run, const Dataset& data, const RunContext& context);

struct FinetuneResult {
  Adapter adapter;
  TrainResult training;
};
/// Attaches an adapter to `base`, which fit() was called for, trains it and saves it, likewise. It
/// stays attached. Throws ArgumentError if a forward pass does not reach every adapted layer, and
/// TensorError if its outputs are not finite or it changes the model's buffers.
FinetuneResult finetune(const FinetuneRun& run, const Base& base, const Dataset& data,
                        const RunContext& context);

/// Returns sentences about the best validation and a run that ended before its last step, each with
/// a space before it; nothing if there is nothing to say.
std::string words_on_result(const TrainResult& result);

/// Returns {"steps": ..., "mean_loss": ..., ...}, for training.json and for --json.
nlohmann::ordered_json to_json(const TrainResult& result, bool with_times);

}  // namespace lowrank::app
