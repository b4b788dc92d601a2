#pragma once

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>
#include <lowrank/adapter/adapter.h>

#include <functional>
#include <string>
#include <vector>

namespace lowrank {

/// Returns what a layer's factors add to its weight, in float64: s·B·A, or its transpose for
/// `transposed`.
inline at::Tensor dense_delta(const AdaptedLayer& layer, bool transposed) {
  const auto product =
      layer.b.detach().to(at::kDouble).flatten(1).mm(layer.a.detach().to(at::kDouble).flatten(1));
  const auto delta = layer.scaling * product;
  return transposed ? delta.t() : delta.view(layer.weight.sizes());
}

inline double relative_error(const at::Tensor& found, const at::Tensor& expected) {
  const auto difference = (found.to(at::kDouble) - expected.to(at::kDouble)).norm();
  const double norm = expected.to(at::kDouble).norm().item<double>();
  return norm > 0 ? difference.item<double>() / norm : difference.item<double>();
}

/// Sets the factors to random numbers, so that every one of them changes the output.
inline void randomize(const Adapter& adapter, const std::string& name = {}) {
  const at::NoGradGuard no_grad;
  for (const auto& parameter : adapter.parameters(name)) parameter.normal_(0, 0.3);
}

/// Returns a loss that weights every output differently. A sum of squares would be constant if the
/// last layer normalizes.
inline at::Tensor loss_of(const at::Tensor& y) {
  return (y * at::linspace(-1, 1, y.numel()).view_as(y)).sum();
}

/// The parameter of this full name of a torch::nn::Module or a TorchScript module.
template <class Model>
at::Tensor parameter_of(const Model& model, const std::string& name) {
  for (const auto& item : model.named_parameters()) {
    if constexpr (requires { item.key(); }) {
      if (item.key() == name) return item.value();
    } else {
      if (item.name == name) return item.value;
    }
  }
  return {};
}

/// Compares the output and the factors' gradients of `forward` with the adapter on, several times,
/// with the same forward of a model that holds the dense weights. Checks that with the adapter off,
/// the output is the base's bit for bit. `transposed` says whether a layer's B·A is the transpose
/// of its weight's shape.
template <class Model>
void expect_dense(const Model& model, Adapter& adapter, const std::function<at::Tensor()>& forward,
                  const std::function<bool(const AdaptedLayer&)>& transposed, double most = 1e-5) {
  const auto layers = adapter.layers();
  const auto base = [&] {
    const at::NoGradGuard no_grad;
    const DisableAdapter off(adapter);
    return forward();
  }();

  // Run the model with dense weights; their gradients dW give those of the factors.
  std::vector<at::Tensor> weights, stored;
  adapter.disable();
  for (const auto& layer : layers) {
    const at::NoGradGuard no_grad;
    weights.push_back(parameter_of(model, layer.parameter));
    stored.push_back(layer.weight.clone());
    at::Tensor(layer.weight).add_(dense_delta(layer, transposed(layer)).to(stored.back()));
    weights.back().set_requires_grad(true);
  }
  const auto expected = forward();
  loss_of(expected).backward();
  std::vector<at::Tensor> dw;
  for (size_t i = 0; i < layers.size(); ++i) {
    const at::NoGradGuard no_grad;
    dw.push_back(weights[i].grad().defined() ? weights[i].grad().clone() : at::Tensor());
    weights[i].mutable_grad().reset();
    weights[i].set_requires_grad(false);
    weights[i].copy_(stored[i]);
  }
  adapter.enable();

  for (int step = 0; step < 3; ++step) {
    for (const auto& parameter : adapter.parameters()) parameter.mutable_grad().reset();
    const auto found = forward();
    EXPECT_LE(relative_error(found.detach(), expected.detach()), most) << "step " << step;
    loss_of(found).backward();
    for (size_t i = 0; i < layers.size(); ++i) {
      if (!dw[i].defined()) continue;
      const auto& layer = layers[i];
      ASSERT_TRUE(layer.a.grad().defined() && layer.b.grad().defined()) << layer.name;
      const auto gradient =
          (transposed(layer) ? dw[i].t() : dw[i]).reshape({layer.b.size(0), -1}).to(at::kDouble);
      const auto a = layer.a.detach().to(at::kDouble).flatten(1);
      const auto b = layer.b.detach().to(at::kDouble).flatten(1);
      EXPECT_LE(relative_error(layer.a.grad().flatten(1), layer.scaling * b.t().mm(gradient)),
                10 * most)
          << layer.name << ", step " << step;
      EXPECT_LE(relative_error(layer.b.grad().flatten(1), layer.scaling * gradient.mm(a.t())),
                10 * most)
          << layer.name << ", step " << step;
    }
  }
  const at::NoGradGuard no_grad;
  const DisableAdapter off(adapter);
  EXPECT_TRUE(at::equal(forward(), base));
}

}  // namespace lowrank
