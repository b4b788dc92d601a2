#include <lowrank/adapter/adapter.h>

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <lowrank/error.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <utility>

#include "adapter/state.h"
#include "adapter/trained_tensors.h"
#include "effective/compact_weight.h"
#include "effective/weight_reading.h"

namespace lowrank {
namespace {

using Names = std::vector<std::string>;

LayerPath path_of(const AdaptedTensor& tensor, bool is_lost) {
  const auto& site = *tensor.site;
  if (is_lost || !effective::is_bound(tensor.tensor, site)) return LayerPath::kLost;
  if (site.dense_reads > 0) return LayerPath::kDense;
  return site.factored_reads > 0 ? LayerPath::kFactored : LayerPath::kUnreached;
}

effective::Term term_of(const AdaptedLayer& layer) {
  return {.a = layer.a,
          .b = layer.b,
          .minus_a = layer.initial_a,
          .minus_b = layer.initial_b,
          .magnitude = layer.magnitude,
          .scaling = layer.scaling};
}

/// Leaves the model without adapters. Its weights and buffers stay as they are.
void unload(Adapter::State& state) {
  state.adapters.clear();
  state.active.clear();
  state.board->publish(state.select({}));  // from now on clones are their base too
  for (const auto& tensor : state.tensors) effective::unbind(tensor.tensor, *tensor.site);
  state.tensors.clear();
  for (const auto& parameter : state.base) parameter.tensor.requires_grad_(parameter.required_grad);
}

/// W as a tensor without adapters: a shell where W is in a compact format.
at::Tensor base_weight(const at::Tensor& weight) {
  if (effective::compact_weight_of(weight) != nullptr) return effective::unbound_shell(weight);
  return effective::stored_weight(weight).detach();
}

}  // namespace

at::Tensor delta_weight(const AdaptedLayer& layer) {
  return effective::low_rank_delta(term_of(layer), *layer.site, layer.weight.sizes());
}

at::Tensor effective_weight(const AdaptedLayer& layer) {
  effective::Meaning meaning;
  meaning.terms = {term_of(layer)};
  return effective::effective_weight(layer.weight, *layer.site, meaning);
}

Adapter::Adapter(std::shared_ptr<State> state) : state_(std::move(state)) {}

Names Adapter::names() const {
  const StateLock lock(state_->mutex);
  Names names;
  for (const auto& adapter : state_->adapters) names.push_back(adapter.name);
  return names;
}

Names Adapter::active() const {
  const StateLock lock(state_->mutex);
  return state_->active;
}

void Adapter::add(const std::string& name, const LoraConfig& config,
                  const std::function<void()>& run) {
  const StateLock lock(state_->mutex);
  check_name(*state_, name);
  put_adapter(*state_, make_adapter(*state_, name, config, run));
}

void Adapter::remove(const std::string& name) {
  const StateLock lock(state_->mutex);
  const auto& adapter = state_->adapter(name);
  require_unmerged(adapter, "remove");
  const auto removed = adapter.name;
  std::erase(state_->active, removed);
  std::erase_if(state_->adapters, [&](const auto& other) { return other.name == removed; });
  state_->publish();
}

void Adapter::rename(const std::string& name, const std::string& new_name) {
  const StateLock lock(state_->mutex);
  auto& adapter = state_->adapter(name);
  check_name(*state_, new_name);
  std::replace(state_->active.begin(), state_->active.end(), adapter.name, new_name);
  adapter.name = new_name;
}

void Adapter::set_active(const Names& names) {
  const StateLock lock(state_->mutex);
  for (const auto& name : names) state_->adapter(name);
  const auto selection = state_->select(names);  // throws before anything changes
  state_->active = names;
  state_->publish();
}

void Adapter::set_scale(const std::string& name, double scale) {
  if (!std::isfinite(scale)) {
    fail<ArgumentError>("adapter", "a scale must be finite", fmt::format("{}", scale));
  }
  const StateLock lock(state_->mutex);
  auto& adapter = state_->adapter(name);
  require_unmerged(adapter, "scale");
  adapter.scale = scale;
  state_->publish();
}

LoraConfig Adapter::config(const std::string& name) const {
  const StateLock lock(state_->mutex);
  return state_->adapter(name).config;
}

std::vector<AdaptedLayer> Adapter::layers(const std::string& name) const {
  const StateLock lock(state_->mutex);
  std::vector<AdaptedLayer> layers;
  const auto& adapter = state_->adapter(name);
  const auto lost = state_->lost_parameters();
  for (const auto& layer : adapter.layers) {
    const auto& tensor = state_->tensors[layer.site];
    const auto parameter = dotted_path(layer.target.layer, layer.target.parameter);
    const bool is_lost = std::find(lost.begin(), lost.end(), parameter) != lost.end();
    layers.push_back({.name = layer.target.path(),
                      .parameter = parameter,
                      .weight = base_weight(layer.target.weight),
                      .a = layer.a,
                      .b = layer.b,
                      .magnitude = layer.magnitude,
                      .bias = layer.bias,
                      .scaling = term_of(layer, adapter).scaling,
                      .path = path_of(tensor, is_lost),
                      .initial_a = layer.minus_a,
                      .initial_b = layer.minus_b,
                      .site = tensor.site});
  }
  return layers;
}

std::vector<at::Tensor> Adapter::parameters(const std::string& name) const {
  const StateLock lock(state_->mutex);
  std::vector<at::Tensor> parameters;
  for (const auto& trained : trained_tensors(state_->adapter(name))) {
    parameters.push_back(trained.tensor);
  }
  return parameters;
}

int64_t Adapter::parameter_count(const std::string& name) const {
  int64_t count = 0;
  for (const auto& parameter : parameters(name)) count += parameter.numel();
  return count;
}

Names Adapter::unreached_layers(const std::string& name) const {
  Names names;
  for (const auto& layer : layers(name)) {
    const bool reached = layer.path == LayerPath::kFactored || layer.path == LayerPath::kDense;
    if (!reached) names.push_back(layer.name);
  }
  return names;
}

Names Adapter::layers_without_gradient(const std::string& name) const {
  const auto has_gradient = [](const AdaptedLayer& layer) {
    return layer.a.grad().defined() || layer.b.grad().defined();
  };
  const auto all = layers(name);
  if (std::none_of(all.begin(), all.end(), has_gradient)) return {};
  Names names;
  for (const auto& layer : all) {
    const bool reached = layer.path == LayerPath::kFactored || layer.path == LayerPath::kDense;
    if (reached && !has_gradient(layer)) names.push_back(layer.name);
  }
  return names;
}

void Adapter::enable() {
  const StateLock lock(state_->mutex);
  state_->enabled = true;
  state_->publish();
}

void Adapter::disable() {
  const StateLock lock(state_->mutex);
  state_->enabled = false;
  state_->publish();
}

bool Adapter::enabled() const {
  const StateLock lock(state_->mutex);
  return state_->enabled;
}

void Adapter::detach() {
  const StateLock lock(state_->mutex);
  if (merged()) unmerge();
  unload(*state_);
  restore_buffers(*state_);
}

std::vector<MergedLayer> Adapter::merge_and_unload(const Names& names) {
  const StateLock lock(state_->mutex);
  auto report = merge(names);
  unload(*state_);
  for (auto& buffer : state_->buffers) buffer.before.reset();
  return report;
}

struct AdapterScope::Impl {
  effective::Scope scope;
};

AdapterScope::AdapterScope(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
AdapterScope::AdapterScope(AdapterScope&& other) noexcept = default;
AdapterScope::~AdapterScope() = default;

AdapterScope Adapter::use(const Names& names) const {
  const StateLock lock(state_->mutex);
  for (const auto& name : names) require_unmerged(state_->adapter(name), "use");
  return AdapterScope(std::unique_ptr<AdapterScope::Impl>(
      new AdapterScope::Impl{{state_->board, state_->select(names)}}));
}

AdapterScope Adapter::use_rows(const Names& names) const {
  if (names.empty()) {
    fail<ArgumentError>("use_rows", "there must be a name for each row of the batch", "none",
                        "\"\" stands for the base.");
  }
  const StateLock lock(state_->mutex);
  std::map<std::string, std::vector<int64_t>> rows;
  for (size_t i = 0; i < names.size(); ++i) {
    const bool base = names[i].empty() || names[i] == "__base__";
    if (!base) rows[names[i]].push_back(static_cast<int64_t>(i));
  }
  auto mixed = std::make_shared<effective::Selection>();
  mixed->batch_rows = static_cast<int64_t>(names.size());
  for (const auto& [name, of_name] : rows) {
    require_unmerged(state_->adapter(name), "use");
    mixed->parts.push_back({of_name, state_->select({name})});
  }
  return AdapterScope(
      std::unique_ptr<AdapterScope::Impl>(new AdapterScope::Impl{{state_->board, mixed}}));
}

DisableAdapter::DisableAdapter(const Adapter& adapter)
    : scope_([&]() -> AdapterScope {
        const StateLock lock(adapter.state_->mutex);
        for (const auto& named : adapter.state_->adapters) require_unmerged(named, "disable");
        return adapter.use(std::vector<std::string>());
      }()) {}

}  // namespace lowrank
