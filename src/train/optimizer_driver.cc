#include "train/optimizer_driver.h"

#include <ATen/ATen.h>
#include <c10/util/Exception.h>
#include <fmt/format.h>
#include <lowrank/error.h>
#include <lowrank/optim/adam.h>
#include <torch/optim/lbfgs.h>
#include <torch/optim/optimizer.h>
#include <torch/serialize/input-archive.h>
#include <torch/serialize/output-archive.h>

#include <algorithm>
#include <cstring>
#include <sstream>

#include "optim/adam_file.h"

namespace lowrank {
namespace {

/// Makes one group for each parameter, so that the groups are in the order of the parameters.
std::vector<ParameterGroup> groups_of(const std::vector<NamedParameter>& parameters, double rate) {
  std::vector<ParameterGroup> groups;
  for (const auto& parameter : parameters) {
    groups.push_back({{parameter.tensor}, rate * parameter.rate});
  }
  return groups;
}

class AdamStepper final : public Stepper {
 public:
  AdamStepper(const std::vector<NamedParameter>& parameters, const TrainOptions& options)
      : adam_(groups_of(parameters, options.learning_rate), {.weight_decay = options.weight_decay}),
        rate_(adam_.options().learning_rate) {
    for (const auto& parameter : parameters) names_.push_back(parameter.name);
  }

  double rate() const override { return rate_; }
  void zero_grad() override { adam_.zero_grad(); }
  void form_gradients() override { adam_.form_gradients(); }
  void step(double factor) override {
    adam_.options().learning_rate = rate_ * factor;
    adam_.step();
  }
  Acceleration accelerate(torch::nn::Module& model) override {
    return lowrank::accelerate(model, adam_);
  }
  void write(std::vector<SafetensorsEntry>& entries,
             std::map<std::string, std::string>& metadata) const override {
    append_moments(adam_, names_, entries, metadata);
  }
  void read(const SafetensorsFile& file) override { restore_moments(adam_, names_, file); }

 private:
  Adam adam_;
  double rate_;
  std::vector<std::string> names_;
};

/// LibTorch writes an optimizer's state to an archive of its own, which a checkpoint holds as
/// bytes.
class LibTorchStepper final : public Stepper {
 public:
  explicit LibTorchStepper(torch::optim::Optimizer& optimizer) : optimizer_(optimizer) {
    for (const auto& group : optimizer_.param_groups()) rates_.push_back(group.options().get_lr());
  }

  double rate() const override { return rates_.front(); }
  void zero_grad() override {
    for (auto& group : optimizer_.param_groups()) {
      for (auto& parameter : group.params()) parameter.mutable_grad().reset();
    }
  }
  void step(double factor) override {
    auto& groups = optimizer_.param_groups();
    for (size_t i = 0; i < groups.size(); ++i) groups[i].options().set_lr(rates_[i] * factor);
    optimizer_.step();
  }
  Acceleration accelerate(torch::nn::Module& model) override { return lowrank::accelerate(model); }

  void write(std::vector<SafetensorsEntry>& entries,
             std::map<std::string, std::string>& /*metadata*/) const override {
    torch::serialize::OutputArchive archive;
    optimizer_.save(archive);
    std::ostringstream stream;
    archive.save_to(stream);
    const auto bytes = stream.str();
    auto tensor = at::empty({static_cast<int64_t>(bytes.size())}, at::kByte);
    std::memcpy(tensor.data_ptr(), bytes.data(), bytes.size());
    entries.push_back({kState, tensor});
  }

  void read(const SafetensorsFile& file) override {
    const auto tensor = file.tensor(kState);
    std::istringstream stream(std::string(static_cast<const char*>(tensor.data_ptr()),
                                          static_cast<size_t>(tensor.nbytes())));
    try {
      torch::serialize::InputArchive archive;
      archive.load_from(stream);
      optimizer_.load(archive);
    } catch (const c10::Error& error) {
      const std::string reason = error.what_without_backtrace();
      fail<FileError>("resume",
                      fmt::format("\"{}\" must hold the state of this optimizer of LibTorch",
                                  file.path().string()),
                      reason.substr(0, reason.find('\n')));
    }
  }

 private:
  static constexpr const char* kState = "optimizer";
  torch::optim::Optimizer& optimizer_;
  std::vector<double> rates_;
};

void require_drivable(torch::optim::Optimizer& optimizer, const TrainTask& task,
                      const TrainOptions& options) {
  if (dynamic_cast<torch::optim::LBFGS*>(&optimizer) != nullptr) {
    fail<ArgumentError>("train", "the optimizer must take a step from the gradients alone", "LBFGS",
                        "LBFGS calls the loss several times a step; write that loop yourself.");
  }
  if (options.weight_decay > 0) {
    fail<ArgumentError>("train", "weight_decay must be 0 beside an optimizer of LibTorch",
                        fmt::format("{}", options.weight_decay),
                        "Set it in the options of that optimizer.");
  }
  for (const auto& group : optimizer.param_groups()) {
    for (const auto& own : group.params()) {
      const auto is_own = [&](const auto& parameter) { return parameter.tensor.is_same(own); };
      if (std::any_of(task.parameters.begin(), task.parameters.end(), is_own)) continue;
      fail<ArgumentError>("train", "the optimizer must train the task's parameters only",
                          "one that the task does not name", "Checkpoints would not hold it.");
    }
  }
}

}  // namespace

std::unique_ptr<Stepper> make_stepper(const TrainTask& task, const TrainOptions& options) {
  if (task.optimizer == nullptr) return std::make_unique<AdamStepper>(task.parameters, options);
  require_drivable(*task.optimizer, task, options);
  return std::make_unique<LibTorchStepper>(*task.optimizer);
}

}  // namespace lowrank
