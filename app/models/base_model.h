#pragma once

#include <lowrank/adapter/adapter.h>
#include <lowrank/adapter/plan.h>
#include <lowrank/train/train_task.h>

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "app/models/mlp.h"

namespace lowrank::app {

/// What one example looks like to a model.
struct InputLayout {
  std::vector<int64_t> shape = {-1};  ///< without the batch: {784}, {1, 28, 28}
  bool is_whole = false;              ///< whether the model takes int64 numbers (token ids)

  bool operator==(const InputLayout&) const = default;
};

/// A model that the commands work on: a multi-layer perceptron, or any model in a TorchScript file.
/// Copies refer to the same model.
class BaseModel {
 public:
  BaseModel() = default;
  BaseModel(const Mlp& model);  // NOLINT(google-explicit-constructor): an Mlp is a base
  /// Loads a TorchScript file on the CPU, in eval(). Throws what load_script() throws.
  static BaseModel from_script(const std::filesystem::path& file);

  /// Maps inputs (B, values) to the model's output. TorchScript gets the inputs as set_layout()
  /// says. Throws TensorError with the reason in one sentence if the model cannot compute with
  /// them, or returns anything but one tensor.
  at::Tensor forward(const at::Tensor& inputs) const;
  void set_layout(const InputLayout& layout);

  bool is_script() const;
  /// The multi-layer perceptron. Must not be called for TorchScript.
  const Mlp& mlp() const;

  /// In training, BatchNorm and its kind in TorchScript go on using their running statistics, which
  /// an adapter does not change: what is trained is what is evaluated. set_trains_statistics(true)
  /// lets them use the batch's, for adapters that have such modules in modules_to_save.
  void set_training(bool training) const;
  void set_trains_statistics(bool trains);
  /// Converts the parameters and buffers of a floating-point dtype, and moves all of them.
  void to(at::Device device, at::ScalarType dtype) const;
  std::vector<std::pair<std::string, at::Tensor>> named_parameters() const;
  std::vector<std::pair<std::string, at::Tensor>> named_buffers() const;

  /// See the library's functions of these names.
  std::string fingerprint() const;
  AdapterPlan plan(const LoraConfig& config) const;
  Adapter attach(const LoraConfig& config, const std::function<void()>& run = {}) const;
  LoadedAdapter load_adapter(const std::filesystem::path& folder) const;

 private:
  struct State;
  std::shared_ptr<State> state_;
};

}  // namespace lowrank::app
