#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <lowrank/adapter/adapter.h>
#include <lowrank/error.h>
#include <torch/nn/module.h>

#include <utility>

#include "adapter/initialise.h"
#include "adapter/state.h"
#include "adapter/targets.h"

namespace lowrank {
namespace {

void require_adaptable(const Target& target) {
  const auto& weight = target.weight;
  if (!weight.is_floating_point() || weight.dim() != 2 || weight.numel() == 0) {
    fail<TensorError>("attach", "an adapted weight must be a floating-point matrix with elements",
                      fmt::format("\"{}\" of type {} with {} elements", target.path(),
                                  c10::toString(weight.scalar_type()), weight.numel()));
  }
  if (effective::is_marked(weight)) {
    fail<TensorError>("attach", "a layer can carry one adapter",
                      fmt::format("\"{}\", which is adapted already", target.path()),
                      "Detach the first adapter, or load both into one.");
  }
}

/// What this version of attach cannot honour yet.
void require_supported(const LoraConfig& config, const std::vector<Target>& targets) {
  const auto refuse = [](const char* field) {
    fail<ArgumentError>("attach", fmt::format("{} must be left away in this version", field),
                        "one that is set");
  };
  if (config.use_dora) refuse("use_dora");
  if (config.lora_bias) refuse("lora_bias");
  if (config.lora_dropout != 0) refuse("lora_dropout");
  if (config.bias != BiasMode::kNone) refuse("bias");
  if (!config.modules_to_save.empty()) refuse("modules_to_save");
  if (config.init != LoraInit::kKaimingUniform && config.init != LoraInit::kNormal)
    refuse("init_lora_weights");
  for (const auto& target : targets) {
    if (target.kind == LayerKind::kLinear) continue;
    fail<ArgumentError>("attach", "target_modules must match Linear layers in this version",
                        fmt::format("\"{}\"", target.path()));
  }
}

}  // namespace

Adapter attach(torch::nn::Module& model, const LoraConfig& config) {
  const auto targets = find_targets(layers_of(model), config);
  require_supported(config, targets);
  for (const auto& target : targets) require_adaptable(target);
  auto state = std::make_shared<Adapter::State>();
  state->config = config;
  state->base = base_parameters(model);
  for (const auto& target : targets) {
    auto factors = std::make_shared<effective::Factors>();
    auto [a, b] = initial_factors(target.weight, target.rank, config.init);
    factors->layer = target.layer;
    factors->a = a.requires_grad_();
    factors->b = b.requires_grad_();
    factors->scaling = target.scaling;
    factors->adapter = state->on;
    state->layers.push_back({target.layer, target.weight, factors, {}});
  }
  for (const auto& parameter : state->base) parameter.tensor.requires_grad_(false);
  for (const auto& layer : state->layers) effective::bind(layer.weight, layer.factors);
  return Adapter(std::move(state));
}

Adapter::Adapter(std::shared_ptr<State> state) : state_(std::move(state)) {}

const LoraConfig& Adapter::config() const { return state_->config; }

std::vector<AdaptedLayer> Adapter::layers() const {
  std::vector<AdaptedLayer> layers;
  for (const auto& layer : state_->layers) {
    const auto& factors = *layer.factors;
    auto path = LayerPath::kUnreached;
    if (factors.fast_calls > 0) path = LayerPath::kFast;
    if (factors.general_calls > 0) path = LayerPath::kGeneral;
    layers.push_back({layer.name, layer.weight, factors.a, factors.b, factors.scaling, path});
  }
  return layers;
}

std::vector<at::Tensor> Adapter::parameters() const {
  std::vector<at::Tensor> parameters;
  for (const auto& layer : state_->layers) {
    parameters.push_back(layer.factors->a);
    parameters.push_back(layer.factors->b);
  }
  return parameters;
}

int64_t Adapter::parameter_count() const {
  int64_t count = 0;
  for (const auto& parameter : parameters()) count += parameter.numel();
  return count;
}

std::vector<std::string> Adapter::unreached_layers() const {
  std::vector<std::string> names;
  for (const auto& layer : layers()) {
    if (layer.path == LayerPath::kUnreached) names.push_back(layer.name);
  }
  return names;
}

void Adapter::enable() { state_->on->enabled = true; }
void Adapter::disable() { state_->on->enabled = false; }
bool Adapter::enabled() const { return state_->on->enabled; }
bool Adapter::merged() const { return state_->on->merged; }

void Adapter::merge() {
  if (merged()) {
    fail<TensorError>("merge", "the adapter must not be merged yet", "one that is merged");
  }
  const at::NoGradGuard no_grad;
  std::vector<at::Tensor> sums;
  for (const auto& layer : state_->layers) {
    const auto sum = effective::dense(effective::without_mark(layer.weight), *layer.factors);
    if (!at::isfinite(sum).all().item<bool>()) {
      fail<TensorError>("merge", "W + s·B·A must be finite in every layer",
                        fmt::format("NaN or Inf in \"{}\"", layer.name), "Nothing was changed.");
    }
    sums.push_back(sum);
  }
  for (size_t i = 0; i < sums.size(); ++i) {
    auto& layer = state_->layers[i];
    auto weight = effective::without_mark(layer.weight);
    layer.unmerged = weight.clone();
    weight.copy_(sums[i]);
  }
  state_->on->merged = true;
}

void Adapter::unmerge() {
  if (!merged()) {
    fail<TensorError>("unmerge", "the adapter must be merged", "one that is not merged");
  }
  const at::NoGradGuard no_grad;
  for (auto& layer : state_->layers) {
    effective::without_mark(layer.weight).copy_(layer.unmerged);
    layer.unmerged.reset();
  }
  state_->on->merged = false;
}

void Adapter::detach() {
  if (merged()) unmerge();
  for (const auto& layer : state_->layers) effective::unbind(layer.weight);
  for (const auto& parameter : state_->base) {
    parameter.tensor.requires_grad_(parameter.required_grad);
  }
  state_->layers.clear();
}

struct DisableAdapter::Scope {
  explicit Scope(std::shared_ptr<effective::AdapterSwitch> of) : adapter(std::move(of)) {}
  std::shared_ptr<effective::AdapterSwitch> adapter;  // outlives the scope's look at it
  effective::ThreadDisable disabled{adapter.get()};
};

DisableAdapter::DisableAdapter(const Adapter& adapter) {
  if (adapter.merged()) {
    fail<TensorError>("disable", "the adapter must not be merged to be switched off",
                      "one that is merged", "Unmerge it first.");
  }
  scope_ = std::make_unique<Scope>(adapter.state_->on);
}

DisableAdapter::~DisableAdapter() = default;

}  // namespace lowrank
