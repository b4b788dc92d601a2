#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <c10/core/InferenceMode.h>
#include <gtest/gtest.h>
#include <lowrank/optim/accelerate.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/forward_grad.h>
#include <torch/csrc/jit/frontend/tracer.h>
#include <torch/nn/modules/linear.h>

#include <optional>
#include <string>

#include "support/dense_reference.h"

// Accelerated and adapted layers are compared with LibTorch's layer in everything that autograd may
// ask of a layer: in-place writes, unusual tensors, tracing and forward derivatives.
namespace lowrank {
namespace {

using torch::nn::Linear;

enum class Kind { kAccelerated, kAdapted, kDisabled };

class Differentiation : public testing::TestWithParam<Kind> {
 protected:
  Differentiation() {
    at::manual_seed(21);
    layer_->weight.set_requires_grad(false);
    layer_->bias.set_requires_grad(false);
    plain_ = {layer_->weight.clone(), layer_->bias.clone()};
    if (GetParam() == Kind::kAccelerated) {
      acceleration_ = accelerate(*layer_);
    } else {
      adapter_ = attach(*layer_, {.rank = 2, .alpha = 3});
      randomize(*adapter_);
      const auto info = adapter_->layers().at(0);
      if (GetParam() == Kind::kDisabled) {
        adapter_->disable();
      } else {
        plain_.weight = plain_.weight + info.scaling * info.b.detach().mm(info.a.detach());
      }
      for (const auto& parameter : adapter_->parameters()) parameter.set_requires_grad(false);
    }
  }

  /// Returns LibTorch's layer on the effective weight.
  at::Tensor expected(const at::Tensor& x) const {
    return at::linear(x, plain_.weight, plain_.bias);
  }

  struct Plain {
    at::Tensor weight, bias;
  } plain_;
  Linear layer_{8, 6};
  std::optional<Acceleration> acceleration_;
  std::optional<Adapter> adapter_;
};

void expect_close(const at::Tensor& found, const at::Tensor& expected) {
  ASSERT_TRUE(found.defined());
  ASSERT_EQ(found.sizes(), expected.sizes());
  EXPECT_TRUE(at::allclose(found, expected, 1e-5, 1e-5)) << found << expected;
}

/// When everything is frozen, x may be overwritten once the layer has read it, as in
/// h.add_(layer(h)).
TEST_P(Differentiation, LetsTheInputOfAFrozenLayerBeWrittenTo) {
  const auto x = at::randn({5, 8}).requires_grad_();
  const auto gradient = [&](const auto& layer) {
    const auto h = x * 1;
    const auto y = layer(h);
    h.add_(1);
    return torch::autograd::grad({y.square().sum() + h.sum()}, {x})[0];
  };
  expect_close(gradient([&](const at::Tensor& h) { return layer_->forward(h); }),
               gradient([&](const at::Tensor& h) { return expected(h); }));
}

TEST_P(Differentiation, LetsAWeightBeWrittenToThatNoGradientNeeds) {
  layer_->bias.set_requires_grad(true);
  const auto y = layer_->forward(at::randn({5, 8}));
  {
    const at::NoGradGuard no_grad;
    layer_->weight.mul_(2);
    if (adapter_) {
      for (const auto& parameter : adapter_->parameters()) parameter.mul_(2);
    }
  }
  y.sum().backward();
  expect_close(layer_->bias.grad(), at::full({6}, 5.0));
}

TEST_P(Differentiation, TakesInputsOfInferenceModeWhereTheyAreNotKept) {
  layer_->bias.set_requires_grad(true);
  at::Tensor x;
  {
    const c10::InferenceMode inference;
    x = at::randn({5, 8});
  }
  layer_->forward(x).sum().backward();
  expect_close(layer_->bias.grad(), at::full({6}, 5.0));
}

/// imag(conj(z)) is stored in memory with the opposite sign.
TEST_P(Differentiation, TakesNegatedInputsAndGradients) {
  const auto z = at::complex(at::randn({5, 8}), at::randn({5, 8}));
  expect_close(layer_->forward(at::imag(z.conj())), expected(at::imag(z).neg()));
  const auto x = at::randn({5, 8}).requires_grad_();
  const auto gradient = [&](const at::Tensor& y) {
    const auto both = at::complex(at::ones({5, 6}), y).conj();
    return torch::autograd::grad({at::real(both * both).sum() + at::imag(both).sum()}, {x})[0];
  };
  expect_close(gradient(layer_->forward(x)), gradient(expected(x)));
}

TEST_P(Differentiation, TakesZerosThatHaveNoMemory) {
  expect_close(layer_->forward(at::_efficientzerotensor({5, 8})), expected(at::zeros({5, 8})));
}

TEST_P(Differentiation, KeepsTheTangentOfAFrozenWeight) {
  const auto x = at::randn({5, 8}), direction = at::randn({6, 8});
  const auto level = static_cast<int64_t>(torch::autograd::ForwardADLevel::get_next_idx());
  const auto weight = at::_make_dual(layer_->weight, direction, level);
  auto tangent = std::get<1>(at::_unpack_dual(at::linear(x, weight, layer_->bias), level));
  if (tangent.defined()) tangent = tangent.clone();
  torch::autograd::ForwardADLevel::release_idx(static_cast<uint64_t>(level));
  expect_close(tangent, at::linear(x, direction));
}

/// The tracer records operators, and must record one that reads x.
TEST_P(Differentiation, IsTracedOperatorByOperator) {
  using torch::jit::Stack;
  const auto traced = torch::jit::tracer::trace(
      {at::randn({5, 8})},
      [&](Stack stack) -> Stack { return {layer_->forward(stack[0].toTensor()) + 1}; },
      [](const at::Tensor&) { return std::string(); });
  const auto graph = traced.first->graph->toString();
  EXPECT_TRUE(graph.find("aten::linear") != std::string::npos ||
              graph.find("aten::addmm") != std::string::npos)
      << graph;
}

TEST_P(Differentiation, GivesOutputsThatAreNoViews) {
  const auto x = at::randn({2, 3, 8});
  at::Tensor y;
  {
    const at::NoGradGuard no_grad;
    y = layer_->forward(x);
  }
  expect_close(y, expected(x));
  EXPECT_FALSE(y.is_view());
  y.mul_(at::ones({6})
             .requires_grad_());  // LibTorch refuses this for a view that was made without grad
  EXPECT_TRUE(y.requires_grad());
}

INSTANTIATE_TEST_SUITE_P(Layers, Differentiation,
                         testing::Values(Kind::kAccelerated, Kind::kAdapted, Kind::kDisabled),
                         [](const auto& test) {
                           switch (test.param) {
                             case Kind::kAccelerated:
                               return "Accelerated";
                             case Kind::kAdapted:
                               return "Adapted";
                             case Kind::kDisabled:
                               return "Disabled";
                           }
                           return "";
                         });

TEST(DifferentiationOfFactors, NeedsWhatIsTrainedAlone) {
  at::manual_seed(22);
  Linear layer(8, 6);
  auto adapter = attach(*layer, {.rank = 2, .alpha = 3});
  randomize(adapter);
  const auto info = adapter.layers().at(0);
  const auto x = at::randn({5, 8});
  const auto dense = [&](const at::Tensor& a, const at::Tensor& b) {
    return info.scaling * at::linear(at::linear(x, a), b);
  };
  // Only B is trained, as in LoRA-FA: x is not kept, and A may be written to.
  info.a.set_requires_grad(false);
  const auto before = info.a.clone();
  const auto y = layer->forward(x);
  {
    const at::NoGradGuard no_grad;
    info.a.mul_(2);
  }
  const auto found = torch::autograd::grad({y.square().sum()}, {info.b})[0];
  const auto b = info.b.detach().clone().requires_grad_();
  const auto base = y.detach() - dense(before, b).detach();
  const auto expected = torch::autograd::grad({(base + dense(before, b)).square().sum()}, {b})[0];
  EXPECT_TRUE(at::allclose(found, expected, 1e-4, 1e-4));
  EXPECT_THROW(y.sum().backward(), c10::Error) << "a second time, without what was kept";
}

/// x of (N, 0) has no numbers, but the layer still has an output.
TEST(DifferentiationOfFactors, TakesLayersWithoutInputs) {
  Linear layer(8, 6);
  layer->weight.set_data(at::empty({6, 0}));
  const auto expected = layer->forward(at::randn({2, 3, 0}));
  const auto fast = accelerate(*layer);
  EXPECT_TRUE(at::equal(layer->forward(at::randn({2, 3, 0})), expected));
}

}  // namespace
}  // namespace lowrank
