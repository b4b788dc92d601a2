#include <lowrank/adapter/adapter.h>
#include <torch/nn/module.h>

#include <algorithm>
#include <utility>

#include "adapter/state.h"

// Finds the adapters of a model again whose handles are all gone. The state behind the handles owns
// the model's tensors. So the last handle parks it, without them, with the switchboard that the
// weights keep alive.
namespace lowrank {
namespace {

using WeakTensor = c10::weak_intrusive_ptr<c10::TensorImpl, c10::UndefinedTensorImpl>;

/// Calls `visit` with each tensor of the model that the state holds, always in the same order.
template <class Visit>
void for_each_model_tensor(Adapter::State& state, const Visit& visit) {
  for (auto& layer : state.model) {
    for (auto& item : layer.parameters) visit(item.second);
    for (auto& item : layer.buffers) visit(item.second);
  }
  for (auto& parameter : state.base) visit(parameter.tensor);
  for (auto& buffer : state.buffers) visit(buffer.tensor);
  for (auto& tensor : state.tensors) visit(tensor.tensor);
  for (auto& adapter : state.adapters) {
    for (auto& layer : adapter.layers) {
      visit(layer.target.weight);
      visit(layer.target.bias);
    }
  }
}

/// A state that owns nothing of its model.
struct ParkedState {
  std::unique_ptr<Adapter::State> state;  // without its board, its sites and the model's tensors
  std::vector<WeakTensor> tensors;        // in the order of for_each_model_tensor()
};

/// Even a weak reference to a TorchScript module keeps its weights in memory, so its state ends
/// with the last handle.
bool can_be_parked(const Adapter::State& state) {
  return !state.adapters.empty() &&
         std::none_of(state.model.begin(), state.model.end(),
                      [](const ModelLayer& layer) { return layer.followed != nullptr; });
}

void park(std::unique_ptr<Adapter::State> state) {
  if (!can_be_parked(*state)) return;
  const auto parked = std::make_shared<ParkedState>();
  for_each_model_tensor(*state, [&](at::Tensor& tensor) {
    parked->tensors.emplace_back(tensor.getIntrusivePtr());
    tensor.reset();
  });
  for (auto& tensor : state->tensors) tensor.site.reset();
  const auto board = std::exchange(state->board, nullptr);
  parked->state = std::move(state);
  board->park(parked);
}

std::shared_ptr<Adapter::State> with_handles(std::unique_ptr<Adapter::State> state) {
  std::shared_ptr<Adapter::State> shared(
      state.release(), [](Adapter::State* last) { park(std::unique_ptr<Adapter::State>(last)); });
  shared->board->set_owner(shared);
  return shared;
}

/// Gives a parked state its board, its sites and the model's tensors back. Returns null if one of
/// the tensors is gone.
std::shared_ptr<Adapter::State> unpark(ParkedState& parked,
                                       const std::shared_ptr<effective::Switchboard>& board) {
  auto& state = *parked.state;
  size_t next = 0;
  for_each_model_tensor(state, [&](at::Tensor& tensor) {
    auto held = parked.tensors[next++].lock();
    if (held) tensor = at::Tensor(std::move(held));
  });
  for (size_t i = 0; i < state.tensors.size(); ++i) {
    auto& adapted = state.tensors[i];
    if (!adapted.tensor.defined()) return nullptr;
    for (const auto& site : effective::sites_of(adapted.tensor)) {
      if (site->board == board && site->index == i) {
        adapted.site = std::const_pointer_cast<effective::Site>(site);
      }
    }
    if (adapted.site == nullptr) return nullptr;
  }
  state.board = board;
  return with_handles(std::move(parked.state));
}

/// An adapted parameter of the model; undefined if it has none.
at::Tensor adapted_parameter(const torch::nn::Module& model) {
  for (const auto& parameter : model.parameters()) {
    if (!parameter.defined() || !effective::is_marked(parameter)) continue;
    if (!effective::sites_of(parameter).empty()) return parameter;
  }
  return {};
}

}  // namespace

std::shared_ptr<Adapter::State> make_state(std::vector<ModelLayer> layers) {
  auto state = std::make_unique<Adapter::State>();
  state->model = std::move(layers);
  for (const auto& layer : state->model) {
    for (const auto& [name, tensor] : layer.parameters) {
      state->base.push_back({dotted_path(layer.name, name), tensor, tensor.requires_grad()});
    }
    const auto statistics = layer.statistics();
    for (const auto& [name, tensor] : layer.buffers) {
      if (!tensor.defined()) continue;
      const bool is_statistic =
          std::any_of(statistics.begin(), statistics.end(),
                      [&own = name](const auto& statistic) { return statistic.first == own; });
      state->buffers.push_back({dotted_path(layer.name, name), tensor, {}, is_statistic});
    }
  }
  return with_handles(std::move(state));
}

std::optional<Adapter> adapter_of(const torch::nn::Module& model) {
  const auto parameter = adapted_parameter(model);
  if (!parameter.defined()) return std::nullopt;
  const auto board = effective::sites_of(parameter)[0]->board;
  auto state = std::static_pointer_cast<Adapter::State>(board->owner());
  if (state == nullptr) {
    const auto parked = std::static_pointer_cast<ParkedState>(board->take_parked());
    if (parked != nullptr) state = unpark(*parked, board);
  }
  // A copy of an adapted model shares the factors, but the handle is one on the original.
  const auto is_own = [&](const AdaptedTensor& tensor) { return tensor.tensor.is_same(parameter); };
  if (state == nullptr || std::none_of(state->tensors.begin(), state->tensors.end(), is_own)) {
    return std::nullopt;
  }
  return Adapter(std::move(state));
}

}  // namespace lowrank
