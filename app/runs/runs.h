#pragma once

#include <lowrank/adapter/adapter.h>
#include <lowrank/train/trainer.h>

#include <filesystem>
#include <functional>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "app/images/dataset.h"
#include "app/models/model_folder.h"
#include "app/runs/resources.h"

/// What `train`, `finetune` and `mnist` do after their flags are parsed. A run's identity is a JSON
/// text of everything that decides its result. It is stored in checkpoints, so that --resume can
/// take the options from there and refuse different ones.
namespace lowrank::app {

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
};

struct BaseRun {
  CommonOptions common;
  std::string data = "mnist";
  std::vector<int64_t> sizes = {784, 1000, 2000, 10};
  Normalization normalization;
  TrainOptions train{.validation_batch_size = 1000};
};

struct FinetuneRun {
  CommonOptions common;
  std::string base;
  std::string data;             // empty: the base's own (data_for)
  std::optional<int64_t> only;  // the one class to train on
  std::string adapter;          // folder of a finished adapter to go on from; empty: a new one
  LoraConfig lora;              // of a new adapter
  int64_t init_batches = 32;    // how many of the first batches an initialisation from data sees
  double lora_plus_ratio = 1;   // learning rate of B divided by that of A
  TrainOptions train{.validation_batch_size = 1000};
};

nlohmann::ordered_json identity(const BaseRun& run, const Resources& resources);
nlohmann::ordered_json identity(const FinetuneRun& run, const std::string& base_sha256,
                                const Resources& resources);

/// Returns the file in which a run keeps its state until it ends.
std::filesystem::path checkpoint_of(const std::filesystem::path& folder);

/// Passes the identity in a folder's checkpoint to `take`. Throws FileError if there is no
/// checkpoint, or if it is one of another kind of run. An ArgumentError of `take` becomes a
/// FileError that names the checkpoint, because the value came from there.
void with_checkpoint_identity(const std::filesystem::path& folder,
                              const std::function<void(const nlohmann::ordered_json&)>& take);

/// Throws FileError if the checkpoint is too small to hold this many parameters of its run. Called
/// before memory is allocated for them.
void require_checkpoint_size(const std::filesystem::path& checkpoint, double numbers);

struct BaseResult {
  ImageClassifier classifier;
  TrainResult training;
};
/// Trains a classifier and writes it to the context's folder, with training.json and history.json
/// beside it. No other command can write to the folder meanwhile (FolderLock).
BaseResult train_base(const BaseRun& run, const ImageDataset& data, const RunContext& context);

struct FinetuneResult {
  Adapter adapter;
  TrainResult training;
};
/// Attaches an adapter to `classifier`, trains it and saves it, likewise. It stays attached. Throws
/// ArgumentError if a forward pass does not reach every adapted layer.
FinetuneResult finetune(const FinetuneRun& run, ImageClassifier& classifier,
                        const ImageDataset& data, const RunContext& context);

/// Returns the data set that a command uses with this base: `given`, or the one that the base was
/// trained on if `given` is empty, or mnist. Prints a warning if both are known and differ.
std::string data_for(const ImageClassifier& base, const std::string& given);

/// Loads a classifier, in the dtype and on the device of the run.
ImageClassifier load_base(const std::filesystem::path& folder, const Resources& resources);

/// Returns the logits of all images. Throws TensorError if they are not finite.
at::Tensor logits_of(const ImageClassifier& classifier, const ImageDataset& data,
                     const Resources& resources);

/// Throws ArgumentError unless the model has one input per pixel and one output per class.
void require_fit(const ImageClassifier& classifier, const ImageDataset& data);

/// Throws FileError if there is no such folder, or if it holds nothing but the checkpoint of a run
/// that was interrupted.
void require_finished(const std::filesystem::path& folder);

/// Does what require_writable_output() does. For the folder of an interrupted run, the message
/// names --resume.
void require_new_run_folder(const std::filesystem::path& folder, bool force);

/// Throws FileError if `folder` holds the log of another run, unless `force` says to replace it. An
/// empty name means no log.
void require_new_log(const std::filesystem::path& folder, bool force);

/// Throws TensorError if a row of (N, classes) holds NaN or Inf.
void require_finite_outputs(const at::Tensor& outputs);

/// Returns a sentence for a run that ended before its last step, with a space before it; otherwise
/// nothing.
std::string words_on_end(const TrainResult& result);

/// Returns {"steps": ..., "mean_loss": ..., ...}, for training.json and for --json.
nlohmann::ordered_json to_json(const TrainResult& result, bool with_times);

}  // namespace lowrank::app
