#pragma once

#include <lowrank/adapter/adapter.h>

#include <filesystem>
#include <functional>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "app/images/dataset.h"
#include "app/models/model_folder.h"
#include "app/runs/resources.h"
#include "app/train/trainer.h"

/// What `train`, `finetune` and `mnist` do, once their flags are read. A run's identity is a JSON
/// text of all that shapes its result; a checkpoint carries it, so that --resume can take the
/// options from there and refuse others.
namespace lowrank::app {

/// Where a run writes, and how.
struct RunContext {
  std::filesystem::path folder;
  std::filesystem::path resume_folder = {};  ///< what --resume is to be given after an interrupt
  bool resume = false;
  bool quiet = false;
  Resources resources;
};

struct BaseRun {
  CommonOptions common;
  std::string data = "mnist";
  std::vector<int64_t> sizes = {784, 1000, 2000, 10};
  Normalization normalization;
  TrainOptions train;
};

struct FinetuneRun {
  CommonOptions common;
  std::string base;
  std::string data = "mnist";
  std::optional<int64_t> only;  // the one class to train on
  LoraConfig lora;
  int64_t init_batches = 32;   // that an initialisation from data sees: the first of the training
  double lora_plus_ratio = 1;  // B's learning rate to A's
  TrainOptions train;
};

nlohmann::ordered_json identity(const BaseRun& run, const Resources& resources);
nlohmann::ordered_json identity(const FinetuneRun& run, const std::string& base_sha256,
                                const Resources& resources);

/// The file a run keeps its state in until it ends.
std::filesystem::path checkpoint_of(const std::filesystem::path& folder);

/// Gives the identity in a folder's checkpoint to `take`. Throws FileError where there is none, or
/// one of another kind of run.
void take_identity(const std::filesystem::path& folder,
                   const std::function<void(const nlohmann::ordered_json&)>& take);

struct BaseResult {
  ImageClassifier classifier;
  TrainResult training;
};
/// Trains a classifier and writes it to the context's folder, with training.json beside it.
BaseResult train_base(const BaseRun& run, const ImageDataset& data, const RunContext& context);

struct FinetuneResult {
  Adapter adapter;
  TrainResult training;
};
/// Attaches, trains and saves an adapter for `classifier`, which carries it afterwards. Throws
/// ArgumentError where a forward does not reach every adapted layer.
FinetuneResult finetune(const FinetuneRun& run, ImageClassifier& classifier,
                        const ImageDataset& data, const RunContext& context);

/// A classifier from disk, in the dtype and on the device of the run.
ImageClassifier load_base(const std::filesystem::path& folder, const Resources& resources);

/// The logits of all images.
at::Tensor logits_of(const ImageClassifier& classifier, const ImageDataset& data,
                     const Resources& resources);

/// Throws ArgumentError where the model's input is not the images' size, or its outputs are fewer
/// than the classes.
void require_fit(const ImageClassifier& classifier, const ImageDataset& data);

/// require_writable_output(), which for the folder of an interrupted run names --resume.
void require_free_folder(const std::filesystem::path& folder, bool force);

/// Throws TensorError where a row of (N, classes) holds NaN or Inf.
void require_finite_outputs(const at::Tensor& outputs);

/// {"parameters": ..., ...}: what is in a training.json, and what --json prints.
nlohmann::ordered_json to_json(const TrainResult& result, bool with_times);

}  // namespace lowrank::app
