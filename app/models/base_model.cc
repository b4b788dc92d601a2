#include "app/models/base_model.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <lowrank/error.h>
#include <torch/csrc/jit/api/module.h>

#include <utility>

#include "app/models/script_file.h"
#include "app/models/stack_guard.h"

namespace lowrank::app {

struct BaseModel::State {
  Mlp mlp = nullptr;
  std::unique_ptr<StackGuard> guard;  // of a TorchScript file, outlives its module
  torch::jit::Module script;
  std::string name;  // the file's, for messages
  InputLayout layout;
  bool trains_statistics = false;
};

namespace {

struct NamedTensors {
  std::vector<std::pair<std::string, at::Tensor>> list;
  void add(const std::string& name, const at::Tensor& tensor) { list.emplace_back(name, tensor); }
};

/// Returns what TorchScript or LibTorch found wrong, without the trace of the model's code that
/// they put around it.
std::string reason_of_failure(const std::exception& error) {
  std::string text = error.what();
  if (const auto last = text.rfind("Error: "); last != std::string::npos) text.erase(0, last + 7);
  text.resize(std::min(text.find('\n'), text.size()));
  while (!text.empty() && (text.back() == '.' || text.back() == ' ')) text.pop_back();
  return text.empty() ? "an error without a text" : text;
}

at::Tensor run_script(torch::jit::Module& module, const at::Tensor& inputs,
                      const std::string& name) {
  const auto shape = fmt::format("({})", fmt::join(inputs.sizes(), ", "));
  c10::IValue output;
  try {
    output = module.forward({inputs});
  } catch (const Error&) {
    throw;
  } catch (const std::exception& error) {  // c10::Error, or an exception of the model's own code
    fail<TensorError>("model",
                      fmt::format("\"{}\" must compute with inputs of shape {}", name, shape),
                      fmt::format("\"{}\"", reason_of_failure(error)));
  }
  if (output.isTensor()) return output.toTensor();
  fail<TensorError>("model", fmt::format("\"{}\" must return one tensor", name), output.tagKind());
}

}  // namespace

BaseModel::BaseModel(const Mlp& model) : state_(std::make_shared<State>()) { state_->mlp = model; }

BaseModel BaseModel::from_script(const std::filesystem::path& file) {
  BaseModel model;
  model.state_ = std::make_shared<State>();
  model.state_->guard = std::make_unique<StackGuard>(too_deep_message(file));
  model.state_->script = load_script(file);
  model.state_->name = file.string();
  model.state_->script.eval();
  return model;
}

at::Tensor BaseModel::forward(const at::Tensor& inputs) const {
  if (!is_script()) return Mlp(state_->mlp)->forward(inputs);
  std::vector<int64_t> shape = {inputs.size(0)};
  shape.insert(shape.end(), state_->layout.shape.begin(), state_->layout.shape.end());
  auto laid_out = inputs.view(shape);
  if (state_->layout.is_whole) laid_out = laid_out.to(at::kLong);
  return run_script(state_->script, laid_out, state_->name);
}

void BaseModel::set_layout(const InputLayout& layout) { state_->layout = layout; }

void BaseModel::set_trains_statistics(bool trains) { state_->trains_statistics = trains; }

bool BaseModel::is_script() const { return state_->mlp.is_empty(); }

const Mlp& BaseModel::mlp() const { return state_->mlp; }

void BaseModel::set_training(bool training) const {
  if (is_script()) {
    state_->script.train(training);
    if (!training || state_->trains_statistics) return;
    for (const auto& module : state_->script.modules()) {
      if (module.hasattr("running_mean")) torch::jit::Module(module).eval();
    }
  } else {
    state_->mlp->train(training);
  }
}

void BaseModel::to(at::Device device, at::ScalarType dtype) const {
  if (!is_script()) {
    state_->mlp->to(device, dtype);
    return;
  }
  const at::NoGradGuard no_grad;
  const auto move = [&](const at::Tensor& tensor) {
    const auto own = tensor.is_floating_point() ? dtype : tensor.scalar_type();
    if (tensor.device() == device && tensor.scalar_type() == own) return;
    at::Tensor(tensor).set_data(tensor.to(device, own));
  };
  for (const auto& parameter : state_->script.parameters()) move(parameter);
  for (const auto& buffer : state_->script.buffers()) move(buffer);
}

std::vector<std::pair<std::string, at::Tensor>> BaseModel::named_parameters() const {
  NamedTensors named;
  if (is_script()) {
    for (const auto& item : state_->script.named_parameters()) named.add(item.name, item.value);
  } else {
    for (const auto& item : state_->mlp->named_parameters()) named.add(item.key(), item.value());
  }
  return named.list;
}

std::vector<std::pair<std::string, at::Tensor>> BaseModel::named_buffers() const {
  NamedTensors named;
  if (is_script()) {
    for (const auto& item : state_->script.named_buffers()) named.add(item.name, item.value);
  }
  return named.list;
}

std::string BaseModel::fingerprint() const {
  return is_script() ? base_fingerprint(state_->script) : base_fingerprint(*state_->mlp);
}

AdapterPlan BaseModel::plan(const LoraConfig& config) const {
  return is_script() ? plan_adapter(state_->script, config) : plan_adapter(*state_->mlp, config);
}

Adapter BaseModel::attach(const LoraConfig& config, const std::function<void()>& run) const {
  return is_script() ? lowrank::attach(state_->script, config, run)
                     : lowrank::attach(*state_->mlp, config, run);
}

LoadedAdapter BaseModel::load_adapter(const std::filesystem::path& folder) const {
  return is_script() ? lowrank::load_adapter(state_->script, folder)
                     : lowrank::load_adapter(*state_->mlp, folder);
}

}  // namespace lowrank::app
