#pragma once

#include <lowrank/adapter/adapter.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "app/runs/base.h"
#include "app/runs/resources.h"
#include "app/train/evaluate.h"

namespace lowrank::app {

/// A claim about an adapter, and whether it was found to hold.
struct Check {
  std::string name;
  bool ok = false;
  std::string meaning;  ///< what is claimed, in plain words
  std::string detail;   ///< the figures
};

/// Returns the SHA-256 of each of a model's own parameters, by name.
std::map<std::string, std::string> parameter_sums(const torch::nn::Module& model);

/// The inputs of the checks.
struct Checked {
  Base base_model;  ///< a multi-layer perceptron with the adapter attached
  Adapter adapter;
  const Dataset* data = nullptr;  ///< the images of `base`, `on` and `off`
  at::Tensor base, on, off;       ///< logits before attaching, with the adapter on, and off
  std::map<std::string, std::string> sums_before;  ///< of the base, before it was adapted
  std::filesystem::path base_folder, adapter_folder;
  Resources resources;
};

/// Checks that
/// - the base did not change,
/// - only the factors have gradients,
/// - each layer multiplies by W + s·B·A (formed separately, in float64), and by exactly W when off,
/// - a dense model with the effective weights gives the same logits, within rounding,
/// - the adapter that is off gives the base's logits, bit for bit,
/// - the adapter that is read from disk gives the same logits, bit for bit,
/// - the merged adapter gives the same logits, within rounding,
/// - unmerging restores the base.
std::vector<Check> check_adapter(Checked& checked);

}  // namespace lowrank::app
