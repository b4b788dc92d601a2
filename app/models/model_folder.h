#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "app/data/preparation.h"
#include "app/models/mlp.h"

namespace lowrank::app {

/// A multi-layer perceptron as it is saved on disk.
struct TrainedMlp {
  Mlp model;
  Preparation preparation = {};
};

/// Writes model.safetensors and config.json (model_type "mlp", sizes, the preparation), and
/// the further files of this name and content: all files or none. Throws FileError if the folder
/// cannot be written.
void save_mlp(const TrainedMlp& trained, const std::filesystem::path& folder,
              const std::vector<std::pair<std::string, std::string>>& further_files = {});

/// Reads what save_mlp wrote; the model is in eval(). Throws FileError, naming the file and
/// the field or tensor, if one is missing, unexpected, of the wrong shape or type, or not finite.
/// Prints a warning if is_config_of() does not hold.
TrainedMlp load_mlp(const std::filesystem::path& folder);

/// Returns whether the weights were saved with this text as config.json. Weights that do not say so
/// belong to any.
bool is_config_of(const std::string& config, const std::map<std::string, std::string>& metadata);
void warn_of_another_config(const std::filesystem::path& config_file);

}  // namespace lowrank::app
