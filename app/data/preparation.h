#pragma once

#include <cstdint>
#include <filesystem>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "app/data/dataset.h"

namespace lowrank::app {

/// How examples become the inputs of a model, as it is recorded with the model.
struct Preparation {
  Normalization normalization = {};
  bool takes_images = true;
  /// Of the images that the model was trained on; zeros if unknown.
  int64_t channels = 0, height = 0, width = 0;
  std::vector<std::string> class_names = {};  ///< see Dataset
  std::vector<std::string> columns = {};      ///< see Dataset
  std::string label_column = {};              ///< of a .csv file; empty if it was none
  bool has_classes = true;                    ///< false: the model predicts numbers
  /// The examples that it was trained on, as --data and --labels name them from any folder; empty
  /// if unknown.
  std::string data = {}, labels = {};
  bool is_resized = false;  ///< whether images of other sizes are resized to height and width

  bool operator==(const Preparation&) const = default;
};

/// Returns a JSON number for one number, and a list for several.
nlohmann::ordered_json one_or_all(const std::vector<double>& numbers);

/// Returns how the examples of this data set are prepared.
Preparation preparation_of(const Dataset& data, const Normalization& normalization);

/// Adds the preparation to a model's config.json or to a run's training.json: image_mean and
/// image_deviation (for examples that are no images input_mean and input_deviation), then what is
/// known of image_height, image_width, image_channels, class_names, columns, label_column, task
/// ("regression"), data, labels and image_resize (true).
void add_preparation(nlohmann::ordered_json& json, const Preparation& preparation);

/// Reads what add_preparation() wrote, for a model with this many inputs and outputs; 0 if they are
/// not known. Throws FileError, naming the file and the field, for a value that cannot be.
Preparation read_preparation(const nlohmann::json& json, int64_t inputs, int64_t outputs,
                             const std::filesystem::path& file);

}  // namespace lowrank::app
