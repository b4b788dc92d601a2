#pragma once

#include <lowrank/adapter/adapter.h>

#include <nlohmann/json.hpp>
#include <string>

#include "app/train/evaluate.h"

/// How evaluations and parameters are printed, the same in every command.
namespace lowrank::app {

/// Accuracy, then a line a class with its wrong and total counts.
void print_evaluation(const std::string& title, const Evaluation& evaluation);
void print_confusion(const Evaluation& evaluation);

/// {accuracy, correct, total, wrong_by_class, total_by_class}.
nlohmann::ordered_json to_json(const Evaluation& evaluation);
nlohmann::ordered_json confusion_json(const Evaluation& evaluation);

/// What an adapter adds, counted from its layers.
struct ParameterCounts {
  int64_t base = 0;
  int64_t lora = 0;
  double share_percent() const;  ///< of the base
};
ParameterCounts count_parameters(const torch::nn::Module& model, const Adapter* adapter);

/// A line a layer, with the shapes of W and bias (and A and B where there is an adapter).
void print_parameters(const torch::nn::Module& model, const Adapter* adapter);

/// One sentence on standard error where the adapter was made for another base, or changes nothing.
void warn(const LoadReport& report, const std::string& folder);

}  // namespace lowrank::app
