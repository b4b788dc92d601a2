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

namespace lowrank {
namespace {

using Names = std::vector<std::string>;

LayerPath path_of(const AdaptedTensor& tensor) {
  const auto& site = *tensor.site;
  if (!effective::is_bound(tensor.tensor, site)) return LayerPath::kUnreached;
  if (site.dense_reads > 0) return LayerPath::kDense;
  return site.factored_reads > 0 ? LayerPath::kFactored : LayerPath::kUnreached;
}

}  // namespace

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
  for (const auto& layer : adapter.layers) {
    const auto path = path_of(state_->tensors[layer.site]);
    layers.push_back({layer.target.path(), layer.target.weight, layer.a, layer.b, layer.magnitude,
                      layer.bias, term_of(layer, adapter).scaling, path});
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
    if (layer.path == LayerPath::kUnreached) names.push_back(layer.name);
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
  state_->adapters.clear();
  state_->active.clear();
  state_->board->publish(state_->select({}));  // from now on clones are their base too
  for (const auto& tensor : state_->tensors) effective::unbind(tensor.tensor, *tensor.site);
  state_->tensors.clear();
  for (const auto& parameter : state_->base) {
    parameter.tensor.requires_grad_(parameter.required_grad);
  }
}

struct AdapterScope::Impl {
  effective::Scope scope;
};

AdapterScope::AdapterScope(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
AdapterScope::~AdapterScope() = default;

AdapterScope Adapter::use(const Names& names) const {
  const StateLock lock(state_->mutex);
  for (const auto& name : names) require_unmerged(state_->adapter(name), "use");
  return AdapterScope(std::unique_ptr<AdapterScope::Impl>(
      new AdapterScope::Impl{{state_->board, state_->select(names)}}));
}

AdapterScope Adapter::use_rows(const Names& names) const {
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
