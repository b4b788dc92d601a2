#pragma once

#include <lowrank/adapter/adapter.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "app/models/model_folder.h"
#include "app/runs/resources.h"
#include "app/train/evaluate.h"

namespace lowrank::app {

/// A claim about an adapter, computed, with its figure.
struct Check {
  std::string name;
  bool ok = false;
  std::string detail;
};

/// SHA-256 of each of a model's own parameters.
std::map<std::string, std::string> parameter_sums(const torch::nn::Module& model);

/// What the checks look at.
struct Checked {
  ImageClassifier classifier;  ///< with the adapter attached
  Adapter adapter;
  const ImageDataset* data = nullptr;  ///< what `base`, `on` and `off` were computed on
  at::Tensor base, on, off;            ///< logits before attaching, adapter on, adapter off
  std::map<std::string, std::string> sums_before;  ///< of the base, before it was adapted
  std::filesystem::path base_folder, adapter_folder;
  Resources resources;
};

/// The base did not change; only factors have gradients; each layer multiplies by W + s·B·A (built
/// apart, in float64) and by W bit for bit when off; a dense model of those weights agrees; off is
/// the base bit for bit; the adapter from disk is this one bit for bit; merged agrees.
std::vector<Check> check_adapter(Checked& checked);

}  // namespace lowrank::app
