#include "adapter/collect_data.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <fmt/format.h>
#include <lowrank/error.h>

#include <atomic>
#include <deque>
#include <exception>
#include <mutex>
#include <optional>
#include <utility>

#include "adapter/init/eva_ranks.h"
#include "effective/weight_reading.h"

namespace lowrank {
namespace {

using Observer = std::function<void(const at::Tensor& x)>;

/// While this exists, no parameter requires or holds a gradient. At its end the parameters,
/// gradients and buffers are as they were.
class FrozenModelGuard {
 public:
  explicit FrozenModelGuard(const Adapter::State& state) {
    const at::NoGradGuard no_grad;
    for (const auto& [name, tensor, required_grad] : state.base) {
      parameters_.push_back({tensor, tensor.grad(), tensor.requires_grad()});
    }
    for (const auto& layer : state.model) {
      for (const auto& [name, buffer] : layer.buffers) {
        if (!buffer.defined()) continue;
        const auto stored = effective::stored_weight(buffer).detach();
        buffers_.emplace_back(stored, stored.clone());
      }
    }
    for (const auto& parameter : parameters_) set(parameter.tensor, {}, false);
  }
  ~FrozenModelGuard() {
    const at::NoGradGuard no_grad;
    for (const auto& [tensor, gradient, required] : parameters_) set(tensor, gradient, required);
    for (const auto& [buffer, before] : buffers_) {
      if (!at::equal(buffer, before)) buffer.copy_(before);
    }
  }
  FrozenModelGuard(const FrozenModelGuard&) = delete;
  FrozenModelGuard& operator=(const FrozenModelGuard&) = delete;

 private:
  struct Parameter {
    at::Tensor tensor, gradient;
    bool required_grad;
  };
  static void set(const at::Tensor& tensor, const at::Tensor& gradient, bool required_grad) {
    tensor.mutable_grad() = gradient;
    tensor.set_requires_grad(required_grad);
  }

  std::vector<Parameter> parameters_;
  std::vector<std::pair<at::Tensor, at::Tensor>> buffers_;
};

/// While this exists, the model is its base for all threads, and the inputs of some sites' weights
/// are observed.
class Observation {
 public:
  Observation(Adapter::State& state, const std::vector<std::pair<size_t, Observer>>& observers)
      : Observation(state) {
    auto selection = std::make_shared<effective::Selection>();
    selection->meanings.resize(state.tensors.size());
    for (const auto& [site, observer] : observers) selection->meanings[site].observe = observer;
    state.board->publish(std::move(selection));
    for (const auto& [site, observer] : observers) bind(state.tensors[site]);
  }
  ~Observation() {
    state_.board->publish(before_);
    for (const auto* tensor : bound_) effective::unbind(tensor->tensor, *tensor->site);
  }
  Observation(const Observation&) = delete;
  Observation& operator=(const Observation&) = delete;

 private:
  explicit Observation(Adapter::State& state)
      : state_(state),
        before_(state.select(state.enabled ? state.active : std::vector<std::string>())) {}

  void bind(const AdaptedTensor& tensor) {
    if (effective::is_bound(tensor.tensor, *tensor.site)) return;
    effective::bind(tensor.tensor, tensor.site);
    bound_.push_back(&tensor);
  }

  Adapter::State& state_;
  std::shared_ptr<const effective::Selection> before_;
  std::vector<const AdaptedTensor*> bound_;
};

/// Accumulates the inputs of one layer. An error in them is thrown after the run, because
/// TorchScript would lose its type.
class InputCollector {
 public:
  InputCollector(const Target& target, const LoraConfig& config) : path_(target.path()) {
    if (config.init == LoraInit::kEva) {
      data_.inputs.emplace(init::eva_components(target.rank, config.eva_config.rho));
    } else {
      data_.covariance.emplace();
    }
  }

  void add(const at::Tensor& x) {
    const std::lock_guard lock(mutex_);
    if (x.numel() == 0 || error_) return;
    is_reached_ = true;
    try {
      const auto rows = x.dim() == 1 ? x.unsqueeze(0) : x;
      if (data_.inputs) data_.inputs->add(rows);
      if (data_.covariance) data_.covariance->add(rows);
    } catch (...) {
      error_ = std::current_exception();
    }
  }

  const std::string& path() const { return path_; }
  bool is_reached() const { return is_reached_; }
  LayerData take() {
    if (error_) at_layer(path_, [&] { std::rethrow_exception(error_); });
    return std::move(data_);
  }

 private:
  std::string path_;
  std::mutex mutex_;
  LayerData data_;
  bool is_reached_ = false;
  std::exception_ptr error_;
};

/// Makes one weight require a gradient, and counts the backward passes that give it one.
class GradientCollector {
 public:
  explicit GradientCollector(const Target& target) : path_(target.path()), weight_(target.weight) {
    weight_.set_requires_grad(true);
    hook_ = weight_.register_hook([passes = passes_](const at::Tensor&) { ++*passes; });
  }
  ~GradientCollector() { weight_.remove_hook(hook_); }
  GradientCollector(const GradientCollector&) = delete;
  GradientCollector& operator=(const GradientCollector&) = delete;

  const std::string& path() const { return path_; }
  bool is_reached() const { return weight_.grad().defined(); }
  LayerData take() {
    const at::NoGradGuard no_grad;
    LayerData data;
    data.gradient = std::exchange(weight_.mutable_grad(), {}).div_(passes_->load());
    return data;
  }

 private:
  std::string path_;
  at::Tensor weight_;
  std::shared_ptr<std::atomic<int64_t>> passes_ = std::make_shared<std::atomic<int64_t>>(0);
  unsigned hook_ = 0;
};

template <class Collector>
void require_reached(const std::deque<Collector>& collectors, const char* how, const char* what) {
  std::vector<std::string> missing;
  for (const auto& collector : collectors) {
    if (!collector.is_reached()) missing.push_back("\"" + collector.path() + "\"");
  }
  if (missing.empty()) return;
  fail<ArgumentError>("attach", fmt::format("the run must reach every adapted layer {}", how),
                      fmt::format("no {} of {}", what, list_names(missing)),
                      "Leave them out of target_modules, or run data that needs them.");
}

/// Returns the data of the collectors at the positions of their targets.
template <class Collector>
std::vector<LayerData> take_all(std::deque<Collector>& collectors,
                                const std::vector<Target>& targets) {
  std::vector<LayerData> data(targets.size());
  auto collector = collectors.begin();
  for (size_t i = 0; i < targets.size(); ++i) {
    if (targets[i].kind != LayerKind::kEmbedding) data[i] = (collector++)->take();
  }
  return data;
}

std::vector<LayerData> collect_inputs(Adapter::State& state, const std::vector<Target>& targets,
                                      const LoraConfig& config, const std::function<void()>& run) {
  std::deque<InputCollector> collectors;
  std::vector<std::pair<size_t, Observer>> observers;
  for (const auto& target : targets) {
    if (target.kind == LayerKind::kEmbedding) continue;
    auto& collector = collectors.emplace_back(target, config);
    observers.emplace_back(site_of(state, target),
                           [&collector](const at::Tensor& x) { collector.add(x); });
  }
  {
    const FrozenModelGuard as_it_was(state);
    const Observation observation(state, observers);
    const at::NoGradGuard no_grad;
    run();
  }
  require_reached(collectors, "by a linear operator", "input");
  return take_all(collectors, targets);
}

std::vector<LayerData> collect_gradients(Adapter::State& state, const std::vector<Target>& targets,
                                         const std::function<void()>& run) {
  const FrozenModelGuard as_it_was(state);
  std::deque<GradientCollector> collectors;
  for (const auto& target : targets) {
    if (target.kind != LayerKind::kEmbedding) collectors.emplace_back(target);
  }
  {
    const Observation base_alone(state, {});
    const at::AutoGradMode with_gradients(true);
    run();
  }
  require_reached(collectors, "by a backward pass", "gradient");
  return take_all(collectors, targets);
}

/// As in PEFT, EVA and CorDA adapt nothing else (tuners/lora/eva.py, corda.py).
void require_linear(const std::vector<Target>& targets, const LoraConfig& config) {
  for (const auto& target : targets) {
    if (target.kind == LayerKind::kLinear || target.kind == LayerKind::kConv1D ||
        target.kind == LayerKind::kEmbedding) {
      continue;
    }
    fail<ArgumentError>(
        "attach",
        fmt::format("the init {} must be for linear layers and embeddings", init_name(config)),
        fmt::format("\"{}\", which is neither", target.path()));
  }
}

}  // namespace

bool needs_data(LoraInit init) {
  return init == LoraInit::kEva || init == LoraInit::kCorda || init == LoraInit::kLoraGa;
}

std::vector<LayerData> collect_data(Adapter::State& state, const std::vector<Target>& targets,
                                    const LoraConfig& config, const std::function<void()>& run) {
  if (!needs_data(config.init)) return std::vector<LayerData>(targets.size());
  const bool gradients = config.init == LoraInit::kLoraGa;
  if (!run) {
    fail<ArgumentError>("attach", fmt::format("the init {} must be given data", init_name(config)),
                        "none",
                        fmt::format("Pass a function that runs the model {}over representative "
                                    "batches after the config.",
                                    gradients ? "forward and backward " : ""));
  }
  if (gradients) return collect_gradients(state, targets, run);
  require_linear(targets, config);
  return collect_inputs(state, targets, config, run);
}

}  // namespace lowrank
