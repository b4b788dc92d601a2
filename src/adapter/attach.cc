#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <c10/core/InferenceMode.h>
#include <fmt/ranges.h>
#include <lowrank/error.h>
#include <torch/csrc/jit/api/module.h>
#include <torch/csrc/jit/runtime/graph_executor.h>
#include <torch/nn/module.h>

#include <algorithm>

#include "adapter/collect_data.h"
#include "adapter/init/eva_ranks.h"
#include "adapter/init/initialise.h"
#include "adapter/state.h"
#include "effective/dora.h"
#include "effective/weight_reading.h"

// Makes the factors of an adapter from a config, in a model that may already have other adapters.
namespace lowrank {
namespace {

/// DoRA's m starts as the norms of the rows of the initial effective weight.
at::Tensor initial_magnitude(const LayerFactors& layer, const effective::Site& site) {
  const effective::Term term = {.a = layer.a,
                                .b = layer.b,
                                .minus_a = layer.minus_a,
                                .minus_b = layer.minus_b,
                                .scaling = layer.target.scaling};
  const auto norms =
      effective::row_norms(effective::stored_weight(layer.target.weight), site, term);
  if (const auto zero = norms.eq(0); zero.any().item<bool>()) {
    fail<ArgumentError>(
        "attach", "use_dora must be for weights without a row of zeros, which has no direction",
        fmt::format("\"{}\", where the row of output {} is zero", site.path,
                    zero.nonzero()[0].item<int64_t>()));
  }
  return norms.to(layer.b.scalar_type()).contiguous();
}

/// The path for messages. If the model itself is the layer, it is the parameter's name.
std::string shown_path(const Target& target) {
  return target.path().empty() ? target.parameter : target.path();
}

LayerFactors make_layer(Adapter::State& state, const LoraConfig& config, const Target& target,
                        LayerData data) {
  LayerFactors layer;
  layer.target = target;
  layer.site = site_of(state, target);
  auto initial = initial_factors(target, config, std::move(data));
  layer.a = initial.a;
  layer.b = initial.b;
  layer.minus_a = initial.minus_a;
  layer.minus_b = initial.minus_b;
  if (config.lora_bias) {
    layer.bias_site = state.site_for(target.layer + ".bias", target.bias, LayerKind::kOther, 1,
                                     target.is_training);
    layer.bias = initial.bias;
  }
  if (config.use_dora) {
    layer.magnitude = initial_magnitude(layer, *state.tensors[layer.site].site);
  }
  for (auto* trained : {&layer.a, &layer.b, &layer.magnitude, &layer.bias}) {
    if (trained->defined()) trained->requires_grad_();
  }
  return layer;
}

/// A parameter that is trained in full can be read by any operator. If an embedding and an output
/// head share it, it is read only by the operators of the layer that it was named in.
LayerKind kind_of_whole(const Adapter::State& state, const std::string& path,
                        const at::Tensor& tensor) {
  int owners = 0;
  auto own = LayerKind::kOther;
  for (const auto& layer : state.model) {
    for (const auto& [name, parameter] : layer.parameters) {
      if (!parameter.is_same(tensor)) continue;
      ++owners;
      if (dotted_path(layer.name, name) == path) own = layer.kind;
    }
  }
  return owners > 1 ? own : LayerKind::kOther;
}

void require_supported_layer(const LoraConfig& config, const Target& target) {
  if (config.use_dora && target.groups > 1) {
    fail<ArgumentError>(
        "attach", "use_dora must be for layers without groups",
        fmt::format("\"{}\" with {} groups", target.path(), target.groups),
        "It needs the norms of the rows of W + s·B·A, which are not the rows of W.");
  }
  if (config.lora_dropout > 0 && (target.kind == LayerKind::kOther || are_experts(target.kind))) {
    fail<ArgumentError>("attach",
                        fmt::format("lora_dropout must be 0 to adapt \"{}\"", target.path()),
                        fmt::format("{}", config.lora_dropout),
                        "Only linear layers, convolutions and embeddings can drop the input of A.");
  }
}

/// Throws TensorError for an adapter that starts from the base while another one is merged, because
/// the weights are then not those of the base.
void require_base(const Adapter::State& state, const NamedAdapter& adapter) {
  const bool starts_from_base =
      adapter.config.use_dora || !adapter.whole.empty() || subtracts_from_base(adapter);
  if (!starts_from_base || !state.any_merged()) return;
  fail<TensorError>(
      "adapter",
      fmt::format("\"{}\" starts from the base, which must be in the weights", adapter.name),
      "weights that an adapter is merged into", "Unmerge first.");
}

Adapter attach_to(std::vector<ModelLayer> layers, const LoraConfig& config,
                  const std::function<void()>& run, const std::string& name) {
  auto state = make_state(std::move(layers));
  check_name(*state, name);
  return attach_first(state, make_adapter(*state, name, config, run));
}

/// Copies a parameter that the adapter trains in full, or statistics that it keeps.
WholeParameter make_whole(Adapter::State& state, const WholeTarget& target) {
  const auto site = target.is_statistic
                        ? state.site_for_statistic(target.path, target.tensor)
                        : state.site_for(target.path, target.tensor,
                                         kind_of_whole(state, target.path, target.tensor), 1, {});
  auto value = effective::stored_weight(target.tensor).detach().clone();
  if (!target.is_statistic) value.requires_grad_();
  return {target.path, site, std::move(value), {}, target.is_statistic};
}

}  // namespace

void prepare_script() {
  // From its second or third call on, the profiling executor differentiates `linear` with a formula
  // of its own, which gives the factors no gradient. The switch is global, and also affects modules
  // that have run before.
  torch::jit::getProfilingMode() = false;
}

size_t site_of(Adapter::State& state, const Target& target) {
  return state.site_for(shown_path(target), target.weight, target.kind, target.groups,
                        target.is_training);
}

NamedAdapter make_adapter(Adapter::State& state, const std::string& name, const LoraConfig& config,
                          const std::function<void()>& run,
                          std::vector<UnmatchedEntry>* unmatched) {
  check(config);
  const c10::InferenceMode normal(false);  // inference tensors cannot be trained
  auto targets = find_targets(state.model, config, unmatched);
  const auto whole = find_whole_parameters(state.model, config, targets, unmatched);
  const auto tokens = find_token_rows(state.model, config, targets);
  for (const auto& target : targets) {
    require_adaptable(state, shown_path(target), target.weight);
    require_supported_layer(config, target);
  }
  for (const auto& target : whole) {
    if (!target.is_statistic) require_adaptable(state, target.path, target.tensor);
  }
  for (const auto& rows : tokens) require_adaptable(state, rows.layer, rows.weight);
  NamedAdapter adapter;
  adapter.name = name;
  adapter.config = config;
  auto data = collect_data(state, targets, config, run);
  if (config.init == LoraInit::kEva) share_ranks(adapter.config, targets, data, state.model);
  for (size_t i = 0; i < targets.size(); ++i) {
    adapter.layers.push_back(make_layer(state, config, targets[i], std::move(data[i])));
  }
  for (const auto& target : whole) adapter.whole.push_back(make_whole(state, target));
  for (const auto& [layer, tensor, rows] : tokens) {
    const auto path = layer + ".weight";
    const auto site = state.site_for(path, tensor, kind_of_whole(state, path, tensor), 1, {});
    const auto value = effective::stored_weight(tensor).detach().index_select(0, rows);
    adapter.whole.push_back({path, site, value.requires_grad_(), rows});
  }
  require_base(state, adapter);
  return adapter;
}

Adapter attach_first(const std::shared_ptr<Adapter::State>& state, NamedAdapter adapter) {
  Adapter handle(state);
  state->active = {adapter.name};
  try {
    put_adapter(*state, std::move(adapter));
  } catch (...) {
    handle.detach();
    throw;
  }
  return handle;
}

void put_adapter(Adapter::State& state, NamedAdapter adapter) {
  if (state.adapters.empty()) freeze(state);
  for (auto& existing : state.adapters) {
    if (existing.name != adapter.name) continue;
    existing = std::move(adapter);
    state.publish();
    return;
  }
  state.adapters.push_back(std::move(adapter));
  state.publish();
}

Adapter attach(torch::nn::Module& model, const LoraConfig& config, const std::function<void()>& run,
               const std::string& name) {
  return attach_to(layers_of(model), config, run, name);
}

Adapter attach(torch::jit::Module& model, const LoraConfig& config,
               const std::function<void()>& run, const std::string& name) {
  prepare_script();
  return attach_to(layers_of(model), config, run, name);
}

Adapter attach(torch::nn::Module& model, const LoraConfig& config, const std::string& name) {
  return attach(model, config, std::function<void()>(), name);
}

Adapter attach(torch::jit::Module& model, const LoraConfig& config, const std::string& name) {
  return attach(model, config, std::function<void()>(), name);
}

}  // namespace lowrank
