#pragma once

#include <lowrank/adapter/adapter.h>

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "app/train/evaluate.h"

/// Prints evaluations and parameter counts in the same way for every command.
namespace lowrank::app {

/// Prints the accuracy, then one line per class with its wrong and total counts. Classes without
/// names are shown by their numbers.
void print_evaluation(const std::string& title, const Evaluation& evaluation,
                      const std::vector<std::string>& class_names = {});
void print_confusion(const Evaluation& evaluation,
                     const std::vector<std::string>& class_names = {});
void print_evaluation(const std::string& title, const RegressionError& error);

/// Returns {accuracy, correct, total, wrong_by_class, total_by_class}.
nlohmann::ordered_json to_json(const Evaluation& evaluation);
/// Returns {mean_squared_error, mean_absolute_error, explained_variance, total}.
nlohmann::ordered_json to_json(const RegressionError& error);
nlohmann::ordered_json confusion_json(const Evaluation& evaluation);

/// How many parameters a base has, and how many its adapter adds.
struct ParameterCounts {
  int64_t base = 0;
  int64_t lora = 0;
  double share_percent() const;  ///< lora as a percentage of base
};
ParameterCounts count_parameters(const torch::nn::Module& model, const Adapter* adapter);

/// Prints one line per layer, with the shapes of W and bias (and of A and B with an adapter).
void print_parameters(const torch::nn::Module& model, const Adapter* adapter);

/// Prints what a user should know of an adapter that was loaded to standard error: that it was
/// trained on another base, changes nothing, or has a config that names what the model or this
/// version does not have.
void warn(const LoadReport& report, const std::string& folder);
/// Prints the warnings that need no model: of a config that was not saved with the tensors beside
/// it, and of fields that nobody knows.
void warn_of_config(bool matches, const std::vector<std::string>& unknown_fields,
                    const std::string& folder);
/// Adds base_matches (null if the adapter does not say which base it is for), acts_like_base,
/// config_matches, unmatched and unknown_fields.
void add_report(nlohmann::ordered_json& json, const LoadReport& report);

}  // namespace lowrank::app
