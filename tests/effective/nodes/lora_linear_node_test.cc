#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/nn/modules/linear.h>

#include "support/dense_reference.h"
#include "support/tolerances.h"

namespace lowrank {
namespace {

using torch::nn::Linear;
using torch::nn::LinearOptions;

void expect_same_to_rounding(const at::Tensor& found, const at::Tensor& expected,
                             int64_t length = 64) {
  ASSERT_EQ(found.sizes(), expected.sizes());
  const double difference =
      (found.to(at::kDouble) - expected.to(at::kDouble)).norm().item<double>();
  const double norm = expected.to(at::kDouble).norm().item<double>();
  EXPECT_LE(difference, tolerance(at::kFloat, length).product * norm);
}

struct NodeCase {
  const char* name;
  std::vector<int64_t> input;
  int64_t out;
  bool bias;
};

class AdaptedLinear : public testing::TestWithParam<NodeCase> {};

// Compares y, dx, dA, dB and dbias with the dense definition in float64.
TEST_P(AdaptedLinear, EqualsTheDenseDefinition) {
  at::manual_seed(1);
  const auto& [name, shape, out, bias] = GetParam();
  const auto in = shape.back();
  Linear layer(LinearOptions(in, out).bias(bias));
  auto adapter = attach(*layer, {.rank = 2, .alpha = 3});
  randomize(adapter);
  if (bias) layer->bias.set_requires_grad(true);
  const auto info = adapter.layers().at(0);

  const auto x = at::randn(shape).requires_grad_();
  const auto y = layer->forward(x);
  const auto dy = at::randn(y.sizes());
  y.backward(dy);

  const auto leaf = [](const at::Tensor& t) {
    return t.detach().to(at::kDouble).clone().requires_grad_();
  };
  const auto x64 = leaf(x), a64 = leaf(info.a), b64 = leaf(info.b);
  const auto w64 = [&] {
    const DisableAdapter off(adapter);
    return info.weight.detach().to(at::kDouble) + 0;
  }();
  const auto bias64 = bias ? leaf(layer->bias) : at::Tensor();
  const auto y64 = at::linear(x64, w64 + 1.5 * b64.mm(a64), bias64);
  y64.backward(dy.to(at::kDouble));

  expect_same_to_rounding(y, y64);
  expect_same_to_rounding(x.grad(), x64.grad());
  expect_same_to_rounding(info.a.grad(), a64.grad());
  expect_same_to_rounding(info.b.grad(), b64.grad());
  if (bias) expect_same_to_rounding(layer->bias.grad(), bias64.grad());
  EXPECT_FALSE(layer->weight.grad().defined());
  EXPECT_EQ(adapter.layers().at(0).path, LayerPath::kFactored) << "W + s B A was formed";
}

INSTANTIATE_TEST_SUITE_P(Inputs, AdaptedLinear,
                         testing::Values(NodeCase{"matrix", {5, 8}, 6, true},
                                         NodeCase{"matrix_no_bias", {5, 8}, 6, false},
                                         NodeCase{"sequence", {3, 4, 8}, 6, true},
                                         NodeCase{"sequence_no_bias", {3, 4, 8}, 6, false},
                                         NodeCase{"vector", {8}, 6, true},
                                         NodeCase{"four", {2, 3, 4, 8}, 6, true},
                                         NodeCase{"square", {5, 8}, 8, true},
                                         NodeCase{"square_no_bias", {5, 8}, 8, false},
                                         NodeCase{"one_out", {5, 8}, 1, true},
                                         NodeCase{"empty", {0, 8}, 6, true}),
                         [](const auto& test) { return test.param.name; });

TEST(AdaptedLinearLayer, TakesTransposedAndStridedInputs) {
  at::manual_seed(2);
  Linear layer(8, 6);
  auto adapter = attach(*layer, {.rank = 2});
  randomize(adapter);
  const auto wide = at::randn({8, 10});
  const auto expected = layer->forward(wide.t().contiguous());
  expect_same_to_rounding(layer->forward(wide.t()), expected);
  expect_same_to_rounding(layer->forward(wide.t().slice(0, 0, 10, 3)), expected.slice(0, 0, 10, 3));
}

TEST(AdaptedLinearLayer, CanBeDifferentiatedTwice) {
  at::manual_seed(3);
  Linear layer(4, 3);
  layer->to(at::kDouble);
  auto adapter = attach(*layer, {.rank = 2});
  randomize(adapter);
  const auto info = adapter.layers().at(0);
  const auto x = at::randn({5, 4}, at::kDouble).requires_grad_();
  const auto penalty = [&](const at::Tensor& y) {
    return torch::autograd::grad({y.pow(3).sum()}, {x}, {}, true, true)[0].pow(2).sum();
  };
  const auto found = torch::autograd::grad({penalty(layer->forward(x))}, {info.a, info.b});
  at::Tensor w;
  {
    const DisableAdapter off(adapter);
    w = layer->weight.detach() + 0;
  }
  const auto dense = at::linear(x, w + info.scaling * info.b.mm(info.a), layer->bias.detach());
  const auto expected = torch::autograd::grad({penalty(dense)}, {info.a, info.b});
  for (size_t i = 0; i < 2; ++i) {
    EXPECT_LT((found[i] - expected[i]).norm().item<double>(),
              1e-12 * expected[i].norm().item<double>());
  }
}

TEST(AdaptedLinearLayer, KeepsHalfTypesAsPeftDoes) {
  at::manual_seed(12);
  Linear layer(8, 6);
  layer->to(at::kBFloat16);
  auto adapter = attach(*layer, {.rank = 2});
  randomize(adapter);
  EXPECT_EQ(adapter.layers().at(0).a.scalar_type(), at::kFloat);
  const auto x = at::randn({5, 8}).to(at::kBFloat16);
  const auto y = layer->forward(x);
  EXPECT_EQ(y.scalar_type(), at::kBFloat16);
  y.sum().backward();
  EXPECT_TRUE(adapter.layers().at(0).b.grad().defined());
}

}  // namespace
}  // namespace lowrank
