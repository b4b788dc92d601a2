#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "app/data/preparation.h"
#include "app/data/source.h"
#include "app/models/base_model.h"
#include "app/models/model_folder.h"
#include "app/runs/resources.h"

/// A base model, together with the examples that a command uses with it.
namespace lowrank::app {

struct Base {
  BaseModel model;
  Preparation preparation = {};
  /// The data set that it was trained on, as --data names it; empty if unknown.
  std::string data = {};
  /// Whether the preparation was recorded with the base. That of a TorchScript file is not.
  bool is_prepared = true;

  Base() = default;
  Base(const TrainedMlp& trained);  // NOLINT(google-explicit-constructor): it is a base
};

/// The data options of a command, as its flags give them.
struct DataOptions {
  DataSource source = {.data = {}};  ///< without data: the base's own
  std::string loss = {};             ///< "cross-entropy" or "mse"; empty: by the labels
  std::vector<double> mean = {};     ///< empty: as recorded
  std::vector<double> deviation = {};
};

/// Throws ArgumentError for a loss of another name.
void check(const DataOptions& options);
/// Returns the source of the options, with labels as their loss needs them.
DataSource source_of(const DataOptions& options);
/// The options by name, those that were not given left out; the same options give the same text.
void add_data_options(nlohmann::ordered_json& json, const DataOptions& options);

/// Loads a base, a model's folder or a TorchScript file, in the dtype and on the device of the run.
Base load_base(const std::filesystem::path& place, const Resources& resources);

/// Takes the preparation of a base without one from the training.json of an adapter that was
/// trained on it, if there is one.
void take_preparation(Base& base, const std::filesystem::path& adapter);

/// Returns the examples to load: those of the options, or the base's own (its name is then put into
/// the options), read as it is recorded of the base, with its classes, columns and channels. Gives
/// the base the normalization of the options. Prints a warning if another data set than the base's
/// was named. Throws ArgumentError if options contradict the base.
DataSource complete(DataOptions& options, Base& base);

/// Finds out in which shape the model takes these examples, and gives `data` as many classes as the
/// model has outputs. Throws TensorError if it does not take them, or returns neither one output
/// for each class nor the numbers to predict.
void fit(Base& base, Dataset& data);

/// Returns the data set as another command finds it from any folder. Empty, which means unknown,
/// for a name that cannot be written to a JSON file as it is.
std::string named_data(const std::string& data);

/// Returns the outputs for all examples: logits (N, classes) or numbers (N, ...). Throws
/// TensorError if they are not finite.
at::Tensor outputs_of(const Base& base, const Dataset& data, const Resources& resources);

/// Throws TensorError if an output (N, ...) holds NaN or Inf.
void require_finite_outputs(const at::Tensor& outputs);

}  // namespace lowrank::app
