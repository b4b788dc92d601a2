#include <ATen/ATen.h>

#include <utility>
#include <vector>

#include "adapter/targets/model_view.h"
#include "effective/mark.h"
#include "kernels/products.h"
#include "optim/acceleration.h"

namespace lowrank {

struct Acceleration::Impl {
  std::vector<at::Tensor> weights;

  Impl() = default;
  Impl(const Impl&) = delete;
  Impl& operator=(const Impl&) = delete;
  ~Impl() {
    for (const auto& weight : weights) effective::end_acceleration(weight);
  }
};

Acceleration::Acceleration(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Acceleration::Acceleration(Acceleration&&) noexcept = default;
Acceleration& Acceleration::operator=(Acceleration&&) noexcept = default;
Acceleration::~Acceleration() = default;

size_t Acceleration::layers() const { return impl_ == nullptr ? 0 : impl_->weights.size(); }

void Acceleration::end() { impl_.reset(); }

Acceleration accelerate(torch::nn::Module& model, const DeferredOf& deferred_of) {
  auto impl = std::make_unique<Acceleration::Impl>();
  for (const auto& layer : layers_of(model)) {
    if (layer.kind != LayerKind::kLinear) continue;
    const auto weight = layer.parameter("weight");
    if (!weight.defined() || !kernels::is_kernel_ready_matrix(weight)) continue;
    if (effective::accelerate_weight(weight, deferred_of(weight))) impl->weights.push_back(weight);
  }
  return Acceleration(std::move(impl));
}

Acceleration accelerate(torch::nn::Module& model) {
  return accelerate(model, [](const at::Tensor&) { return nullptr; });
}

}  // namespace lowrank
