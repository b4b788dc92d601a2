#pragma once

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <lowrank/adapter/adapter.h>
#include <torch/csrc/jit/serialization/import.h>
#include <torch/script.h>

#include <algorithm>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "app/models/mlp.h"
#include "support/dense_reference.h"

/// Models and data for the initialisations from data.
namespace lowrank {

/// The state that a run over data must not change.
struct Snapshot {
  struct Entry {
    at::Tensor value, gradient;
    bool required_grad;
  };
  std::map<std::string, Entry> entries;

  void add(const std::string& name, const at::Tensor& tensor) {
    const auto& gradient = tensor.grad();
    entries[name] = {tensor.detach().clone(), gradient.defined() ? gradient.clone() : at::Tensor(),
                     tensor.requires_grad()};
  }
  bool equals(const Snapshot& other, bool with_requires_grad = true) const {
    const auto same = [](const at::Tensor& one, const at::Tensor& two) {
      return one.defined() == two.defined() && (!one.defined() || at::equal(one, two));
    };
    return std::equal(
        entries.begin(), entries.end(), other.entries.begin(), other.entries.end(),
        [&](const auto& one, const auto& two) {
          return one.first == two.first && same(one.second.value, two.second.value) &&
                 same(one.second.gradient, two.second.gradient) &&
                 (!with_requires_grad || one.second.required_grad == two.second.required_grad);
        });
  }
};

/// A model whose layers are known, with a few batches.
class Subject {
 public:
  virtual ~Subject() = default;
  virtual Adapter attach(const LoraConfig& config, const std::function<void()>& run) = 0;
  virtual void load(const std::filesystem::path& folder) = 0;
  virtual at::Tensor forward(const at::Tensor& x) = 0;
  /// Returns the inputs (n, in) of each target for one batch, without an adapter.
  virtual std::map<std::string, at::Tensor> inputs(const at::Tensor& x) = 0;
  virtual std::vector<std::pair<std::string, at::Tensor>> parameters() = 0;

  const std::vector<std::string>& targets() const { return targets_; }

  at::Tensor loss(const at::Tensor& x) { return loss_of(forward(x).tanh()); }

  void run(bool backward) {
    for (const auto& x : batches_) {
      const auto y = loss(x);
      if (backward) y.backward();
    }
  }

  at::Tensor outputs() {
    const at::NoGradGuard no_grad;
    std::vector<at::Tensor> outputs;
    for (const auto& x : batches_) outputs.push_back(forward(x));
    return at::cat(outputs);
  }

  /// Returns the inputs of the target's layer in the base, batch by batch.
  std::vector<at::Tensor> inputs_of(const std::string& target) {
    const at::NoGradGuard no_grad;
    std::vector<at::Tensor> all;
    for (const auto& x : batches_) all.push_back(inputs(x).at(target));
    return all;
  }

  /// Returns the mean gradient of the loss over the batches for each target's weight. Drops
  /// existing gradients.
  std::map<std::string, at::Tensor> mean_gradients() {
    for (auto& [name, tensor] : parameters()) tensor.mutable_grad().reset();
    run(/*backward=*/true);
    std::map<std::string, at::Tensor> gradients;
    for (auto& [name, tensor] : parameters()) {
      if (name.ends_with(".weight")) {
        gradients[name.substr(0, name.rfind('.'))] =
            tensor.grad() / static_cast<double>(batches_.size());
      }
      tensor.mutable_grad().reset();
    }
    return gradients;
  }

  Snapshot snapshot() {
    Snapshot snapshot;
    for (const auto& [name, tensor] : parameters()) snapshot.add(name, tensor);
    return snapshot;
  }

 protected:
  std::vector<std::string> targets_;
  std::vector<at::Tensor> batches_;
};

/// Linear layers with ReLU between them. One parameter is frozen, and one has a gradient.
class MlpSubject : public Subject {
 public:
  MlpSubject() {
    at::manual_seed(5);
    model_ = app::Mlp(app::MlpOptions{.sizes = {12, 10, 9, 8}});
    model_->named_parameters()["linear3.bias"].set_requires_grad(false);
    auto marked = model_->named_parameters()["linear2.weight"];
    marked.mutable_grad() = at::randn(marked.sizes());
    targets_ = {"linear1", "linear2", "linear3"};
    const auto scales = at::pow(0.7, at::arange(12));
    for (int i = 0; i < 4; ++i) batches_.push_back(at::randn({20, 12}) * scales + 0.5);
  }
  Adapter attach(const LoraConfig& config, const std::function<void()>& run) override {
    return lowrank::attach(*model_, config, run);
  }
  void load(const std::filesystem::path& folder) override { load_adapter(*model_, folder); }
  at::Tensor forward(const at::Tensor& x) override { return model_->forward(x); }
  std::map<std::string, at::Tensor> inputs(const at::Tensor& x) override {
    std::map<std::string, at::Tensor> inputs;
    auto h = x;
    for (const auto& name : targets_) {
      inputs[name] = h;
      const auto parameters = model_->named_parameters();
      h = at::linear(h, parameters[name + ".weight"], parameters[name + ".bias"]).relu();
    }
    return inputs;
  }
  std::vector<std::pair<std::string, at::Tensor>> parameters() override {
    std::vector<std::pair<std::string, at::Tensor>> all;
    for (const auto& item : model_->named_parameters()) all.emplace_back(item.key(), item.value());
    return all;
  }

 private:
  app::Mlp model_{nullptr};
};

/// A scripted net of embedding, convolution, LSTM and two linear layers (reader_scripted.pt).
class ScriptSubject : public Subject {
 public:
  ScriptSubject()
      : module_(torch::jit::load(std::string(LOWRANK_FIXTURES) + "/reader_scripted.pt")) {
    at::manual_seed(6);
    targets_ = {"linear1", "linear2"};
    for (int i = 0; i < 4; ++i) batches_.push_back(at::randint(0, 20, {16, 5}, at::kLong));
  }
  Adapter attach(const LoraConfig& config, const std::function<void()>& run) override {
    return lowrank::attach(module_, config, run);
  }
  void load(const std::filesystem::path& folder) override { load_adapter(module_, folder); }
  at::Tensor forward(const at::Tensor& x) override { return module_.forward({x}).toTensor(); }
  std::map<std::string, at::Tensor> inputs(const at::Tensor& ids) override {
    const auto call = [&](const char* name, const at::Tensor& x) {
      return module_.attr(name).toModule().forward({x});
    };
    const auto embedded = call("embedding", ids).toTensor().transpose(1, 2);
    const auto mixed = call("conv", embedded).toTensor().relu().transpose(1, 2);
    const auto lstm = module_.attr("lstm").toModule();  // its forward cannot be called by name
    std::vector<at::Tensor> weights;
    for (const char* name : {"weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"}) {
      weights.push_back(lstm.attr(name).toTensor());
    }
    const auto zero = at::zeros({1, mixed.size(0), weights[1].size(1)});
    const auto read = std::get<0>(at::lstm(mixed, {zero, zero}, weights, /*has_biases=*/true,
                                           /*num_layers=*/1, /*dropout=*/0, /*train=*/false,
                                           /*bidirectional=*/false, /*batch_first=*/true))
                          .select(1, -1);
    return {{"linear1", read}, {"linear2", call("linear1", read).toTensor()}};
  }
  std::vector<std::pair<std::string, at::Tensor>> parameters() override {
    std::vector<std::pair<std::string, at::Tensor>> all;
    for (const auto& item : module_.named_parameters()) all.emplace_back(item.name, item.value);
    return all;
  }

 private:
  torch::jit::Module module_;
};

inline std::unique_ptr<Subject> make_subject(const std::string& name) {
  if (name == "mlp") return std::make_unique<MlpSubject>();
  return std::make_unique<ScriptSubject>();
}

}  // namespace lowrank
