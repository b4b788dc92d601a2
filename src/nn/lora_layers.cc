#include <lowrank/nn/lora_layers.h>

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <lowrank/error.h>

#include <optional>

#include "adapter/state.h"
#include "effective/mark.h"
#include "effective/weight_reading.h"

// A layer calls attach() on itself in its constructor; its forward is LibTorch's own.
namespace lowrank::nn {
namespace {

constexpr const char* kA = "lora_A";
constexpr const char* kB = "lora_B";
constexpr const char* kHolder = "lora";

/// Keeps a layer's adapter. As a child module it receives train() and eval() from the constructor
/// on, and it goes along when Cloneable assigns one Module to another.
struct AdapterHolder : torch::nn::Module {
  std::optional<Adapter> adapter;
};

LoraConfig config_of(const LoraOptions& lora) {
  return {.rank = lora.rank,
          .alpha = lora.alpha,
          .target_modules = {"weight"},
          .use_rslora = lora.use_rslora,
          .lora_dropout = lora.lora_dropout};
}

LoraOptions options_of(const LoraConfig& config) {
  return {.rank = config.rank,
          .alpha = config.alpha,
          .lora_dropout = config.lora_dropout,
          .use_rslora = config.use_rslora};
}

/// Removes the mark from a weight until the end of the scope, so that set_data() can give the
/// weight another tensor's storage and key set.
class Unmarked {
 public:
  explicit Unmarked(const at::Tensor& weight)
      : weight_(weight), sites_(effective::sites_of(weight)) {
    for (const auto& site : sites_) effective::unbind(weight_, *site);
  }
  ~Unmarked() {
    for (const auto& site : sites_) effective::bind(weight_, site);
  }
  Unmarked(const Unmarked&) = delete;
  Unmarked& operator=(const Unmarked&) = delete;

 private:
  at::Tensor weight_;
  std::vector<std::shared_ptr<const effective::Site>> sites_;
};

}  // namespace

template <class Base, class Options>
LoraImpl<Base, Options>::LoraImpl(const Options& base_options, const LoraOptions& lora)
    : Base(base_options), base_options_(base_options) {
  const auto holder = this->register_module(kHolder, std::make_shared<AdapterHolder>());
  holder->adapter = attach(*this, config_of(lora));
  this->register_parameter(kA, lora_a());
  this->register_parameter(kB, lora_b());
}

template <class Base, class Options>
Adapter LoraImpl<Base, Options>::adapter() const {
  return *dynamic_cast<const AdapterHolder&>(*this->named_children()[kHolder]).adapter;
}

template <class Base, class Options>
std::shared_ptr<torch::nn::Module> LoraImpl<Base, Options>::clone(
    const c10::optional<c10::Device>& device) const {
  require_unmerged(adapter(), "clone");
  const at::NoGradGuard no_grad;
  auto copy = std::make_shared<LoraImpl>(base_options_, options_of(adapter().config()));
  const Unmarked unmarked(copy->weight);
  const auto values = this->named_parameters(/*recurse=*/false);
  for (auto& parameter : copy->named_parameters(/*recurse=*/false)) {
    const auto value = effective::stored_weight(values[parameter.key()]).detach();
    parameter.value().set_data(value.to(value.options().device(device.value_or(value.device())),
                                        /*non_blocking=*/false, /*copy=*/true));
  }
  copy->train(this->is_training());
  return copy;
}

template <class Base, class Options>
void LoraImpl<Base, Options>::save(torch::serialize::OutputArchive& archive) const {
  require_unmerged(adapter(), "save");
  Base::save(archive);
}

template <class Base, class Options>
void LoraImpl<Base, Options>::load(torch::serialize::InputArchive& archive) {
  require_unmerged(adapter(), "load");
  const Unmarked unmarked(this->weight);
  Base::load(archive);
}

template class LoraImpl<torch::nn::LinearImpl, torch::nn::LinearOptions>;
template class LoraImpl<torch::nn::Conv1dImpl, torch::nn::Conv1dOptions>;
template class LoraImpl<torch::nn::Conv2dImpl, torch::nn::Conv2dOptions>;
template class LoraImpl<torch::nn::EmbeddingImpl, torch::nn::EmbeddingOptions>;

std::vector<std::pair<std::string, at::Tensor>> lora_parameters(const torch::nn::Module& model) {
  std::vector<std::pair<std::string, at::Tensor>> factors;
  for (const auto& parameter : model.named_parameters()) {
    const auto& name = parameter.key();
    const auto own_name = name.substr(name.rfind('.') + 1);
    if (own_name == kA || own_name == kB) factors.emplace_back(name, parameter.value());
  }
  return factors;
}

void mark_only_lora_as_trainable(const torch::nn::Module& model) {
  for (const auto& parameter : model.parameters()) parameter.requires_grad_(false);
  for (const auto& [name, factor] : lora_parameters(model)) factor.requires_grad_();
}

}  // namespace lowrank::nn
