#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <c10/core/InferenceMode.h>
#include <gtest/gtest.h>
#include <lowrank/adapter/adapter.h>
#include <lowrank/optim/accelerate.h>
#include <lowrank/optim/adam.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/function.h>

#include <utility>
#include <vector>

#include "app/models/mlp.h"
#include "effective/mark.h"

namespace lowrank {
namespace {

app::Mlp make_model(uint64_t seed = 0) {
  at::manual_seed(seed);
  return app::Mlp(app::MlpOptions{.sizes = {20, 30, 7}});
}

double relative_difference(const at::Tensor& found, const at::Tensor& expected) {
  const auto difference = (found - expected).to(at::kDouble).norm();
  return (difference / expected.to(at::kDouble).norm()).item<double>();
}

/// Returns the loss's gradients with respect to the input and all parameters.
std::vector<at::Tensor> gradients_of(app::Mlp& model, const at::Tensor& x) {
  auto inputs = model->parameters();
  inputs.push_back(x);
  return torch::autograd::grad({model->forward(x).square().sum()}, inputs);
}

TEST(Accelerate, AgreesWithLibTorchToRounding) {
  auto model = make_model();
  const auto x = at::randn({5, 20}).requires_grad_();
  const auto expected = model->forward(x);
  const auto expected_gradients = gradients_of(model, x);
  const auto fast = accelerate(*model);
  EXPECT_EQ(fast.layers(), 2U);
  EXPECT_LE(relative_difference(model->forward(x), expected), 1e-6);
  const auto gradients = gradients_of(model, x);
  for (size_t i = 0; i < gradients.size(); ++i) {
    EXPECT_LE(relative_difference(gradients[i], expected_gradients[i]), 1e-6) << i;
  }
  const at::NoGradGuard no_grad;
  EXPECT_LE(relative_difference(model->forward(x), expected), 1e-6);
  const c10::InferenceMode inference;
  EXPECT_LE(relative_difference(model->forward(x.detach()), expected), 1e-6);
}

TEST(Accelerate, UsesOurKernels) {
  auto model = make_model();
  const auto x = at::randn({64, 20}).requires_grad_();
  const auto fast = accelerate(*model);
  // LibTorch's products depend on the number of rows. Ours do not, in forward and in backward.
  const auto all = model->forward(x);
  const auto dx = torch::autograd::grad({all.square().sum()}, {x}, {}, true)[0];
  for (int64_t i = 0; i < 64; ++i) {
    const auto row = x.detach().narrow(0, i, 1).requires_grad_();
    const auto y = model->forward(row);
    EXPECT_TRUE(at::equal(y, all.narrow(0, i, 1))) << i;
    EXPECT_TRUE(at::equal(torch::autograd::grad({y.square().sum()}, {row})[0], dx.narrow(0, i, 1)));
  }
  EXPECT_EQ(all.grad_fn()->name().find("Addmm"), std::string::npos) << all.grad_fn()->name();
}

TEST(Accelerate, TakesInputsOfAnyDimensions) {
  at::manual_seed(1);
  for (const bool with_bias : {true, false}) {
    torch::nn::Linear linear(torch::nn::LinearOptions(6, 4).bias(with_bias));
    for (const std::vector<int64_t>& shape :
         std::vector<std::vector<int64_t>>{{6}, {3, 6}, {2, 3, 6}, {0, 6}}) {
      const auto x = at::randn(shape);
      const auto expected = linear->forward(x);
      const auto fast = accelerate(*linear);
      const auto found = linear->forward(x);
      ASSERT_EQ(found.sizes(), expected.sizes());
      EXPECT_TRUE(at::allclose(found, expected, 1e-5, 1e-6)) << shape.size();
    }
  }
}

TEST(Accelerate, LeavesTheModelAsItWas) {
  auto model = make_model();
  const auto x = at::randn({3, 20});
  const auto before = model->forward(x);
  auto fast = accelerate(*model);
  EXPECT_EQ(accelerate(*model).layers(), 0U) << "accelerated already";
  auto moved = std::move(fast);
  for (const auto& parameter : model->parameters()) {
    EXPECT_EQ(effective::is_marked(parameter), parameter.dim() == 2);
  }
  moved.end();
  EXPECT_EQ(moved.layers(), 0U);
  for (const auto& parameter : model->parameters()) EXPECT_FALSE(effective::is_marked(parameter));
  EXPECT_TRUE(at::equal(model->forward(x), before));
}

TEST(Accelerate, GoesTogetherWithAnAdapter) {
  auto model = make_model();
  const auto x = at::randn({4, 20});
  const auto stock = model->forward(x);
  auto fast = accelerate(*model);
  const auto base = model->forward(x);
  auto adapter = attach(*model, {.rank = 2});
  {
    const at::NoGradGuard no_grad;
    for (const auto& parameter : adapter.parameters()) parameter.normal_();
  }
  EXPECT_GT(relative_difference(model->forward(x), base), 1e-2);
  {
    const DisableAdapter off(adapter);
    EXPECT_TRUE(at::equal(model->forward(x), base));
    const at::NoGradGuard no_grad;
    EXPECT_TRUE(at::equal(model->forward(x), base));
  }
  adapter.detach();
  EXPECT_TRUE(at::equal(model->forward(x), base));
  fast.end();
  EXPECT_TRUE(at::equal(model->forward(x), stock));
}

TEST(Accelerate, EndsUnderAnAdapterThatStays) {
  auto model = make_model();
  const auto x = at::randn({4, 20});
  const auto stock = model->forward(x);
  auto fast = accelerate(*model);
  auto adapter = attach(*model, {.rank = 2});
  fast.end();
  adapter.disable();
  EXPECT_TRUE(at::equal(model->forward(x), stock));
  adapter.detach();
  for (const auto& parameter : model->parameters()) EXPECT_FALSE(effective::is_marked(parameter));
}

TEST(Accelerate, CanBeDifferentiatedTwice) {
  auto model = make_model();
  const auto x = at::randn({4, 20}).requires_grad_();
  const auto penalty = [&] {
    const auto y = model->forward(x).square().sum();
    const auto dx = torch::autograd::grad({y}, {x}, {}, true, /*create_graph=*/true)[0];
    return torch::autograd::grad({dx.square().sum()}, {model->parameters()[0]})[0];
  };
  const auto expected = penalty();
  const auto fast = accelerate(*model);
  EXPECT_LE(relative_difference(penalty(), expected), 1e-5);
}

TEST(Accelerate, IsLeftBehindByAConversion) {
  auto model = make_model();
  const auto fast = accelerate(*model);
  model->to(at::kDouble);
  const auto x = at::randn({3, 20}, at::kDouble);
  const auto y = model->forward(x);
  EXPECT_EQ(y.scalar_type(), at::kDouble);
  EXPECT_FALSE(effective::is_marked(model->parameters()[0]));
}

TEST(Accelerate, GivesLibTorchsErrorsForWrongShapes) {
  auto model = make_model();
  const auto fast = accelerate(*model);
  EXPECT_THROW(model->forward(at::randn({3, 19})), c10::Error);
  EXPECT_THROW(model->forward(at::randn({3, 20}, at::kDouble)), c10::Error);
  EXPECT_THROW(at::linear(at::randn({3, 20}), model->parameters()[0], at::randn({5})), c10::Error);
}

TEST(Accelerate, TrainsAsLibTorchDoes) {
  auto plain = make_model(3), accelerated = make_model(3);
  const auto fast = accelerate(*accelerated);
  Adam first(plain->parameters()), second(accelerated->parameters());
  const auto x = at::randn({10, 20});
  const auto labels = at::randint(0, 7, {10}, at::kLong);
  for (int i = 0; i < 10; ++i) {
    const auto step = [&](app::Mlp& model, Adam& optimizer) {
      optimizer.zero_grad();
      const auto loss = at::cross_entropy_loss(model->forward(x), labels);
      loss.backward();
      optimizer.step();
      return loss.item<double>();
    };
    const double expected = step(plain, first);
    EXPECT_NEAR(step(accelerated, second), expected, 1e-5 * expected) << i;
  }
}

}  // namespace
}  // namespace lowrank
