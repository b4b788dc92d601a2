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
/// the options), as_recorded(). Prints a warning if another data set than the base's was named.
/// Throws FileError if there is no such data set.
DataSource complete(DataOptions& options, Base& base);

/// Returns the source of the options, to be read as it is recorded of the base: with its classes,
/// columns, channels and size. Gives the base the normalization of the options. Throws
/// ArgumentError if options contradict the base.
DataSource as_recorded(const DataOptions& options, Base& base);

/// Finds out in which shape the model takes these examples, and gives `data` as many classes as the
/// model has outputs. Throws TensorError if it does not take them, or returns neither one output
/// for each class nor the numbers to predict.
void fit(Base& base, Dataset& data);

/// Returns a checksum of the inputs and labels, as text.
std::string checksum(const Dataset& data);

/// Throws FileError unless the examples are those that an interrupted run began with. `identity` is
/// that of its checkpoint.
void require_same_examples(const nlohmann::ordered_json& identity, const Dataset& data);

/// Prints a note if it is probably not known, or was given in another unit, how the inputs of a
/// TorchScript model are normalized.
void note_normalization(const Base& base, const Dataset& data, const DataOptions& options);

/// Returns how these examples are prepared, and by which options they are found again.
Preparation preparation_of(const Dataset& data, const Normalization& normalization,
                           const DataOptions& options);

/// Returns the data set as another command finds it from any folder. Empty, which means unknown,
/// for a name that cannot be written to a JSON file as it is.
std::string named_data(const std::string& data);

/// Returns the outputs for all examples: logits (N, classes) or numbers (N, ...). Throws as
/// require_finite_outputs() does.
at::Tensor outputs_of(const Base& base, const Dataset& data, const Resources& resources);

/// Throws TensorError if an output (N, ...) of the model holds NaN or Inf. The message names the
/// first parameter that does, if there is one.
void require_finite_outputs(const at::Tensor& outputs, const BaseModel& model);

}  // namespace lowrank::app
