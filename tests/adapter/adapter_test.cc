#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>
#include <lowrank/adapter/adapter.h>
#include <lowrank/error.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/nn/modules/activation.h>
#include <torch/nn/modules/container/sequential.h>
#include <torch/nn/modules/linear.h>

#include <cmath>
#include <limits>
#include <thread>

#include "support/expect_error.h"
#include "support/tolerances.h"

namespace lowrank {
namespace {

using torch::nn::Linear;
using torch::nn::LinearOptions;

/// B starts at zero; a trained adapter has another one.
void randomize(const Adapter& adapter) {
  const at::NoGradGuard no_grad;
  for (const auto& parameter : adapter.parameters()) parameter.normal_(0, 0.3);
}

void expect_close(const at::Tensor& found, const at::Tensor& expected, int64_t length = 64) {
  ASSERT_EQ(found.sizes(), expected.sizes());
  const double difference =
      (found.to(at::kDouble) - expected.to(at::kDouble)).norm().item<double>();
  const double norm = expected.to(at::kDouble).norm().item<double>();
  EXPECT_LE(difference, tolerance(at::kFloat, length).product * norm);
}

/// A model with a name to miss, a shared weight and a layer that no forward reads.
struct Net : torch::nn::Module {
  Linear linear1{nullptr}, linear2{nullptr}, spare{nullptr};
  torch::nn::ReLU relu{nullptr};
  Net() {
    linear1 = register_module("linear1", Linear(8, 6));
    relu = register_module("relu", torch::nn::ReLU());
    linear2 = register_module("linear2", Linear(6, 3));
    spare = register_module("spare", Linear(6, 3));
  }
  at::Tensor forward(const at::Tensor& x) { return linear2(relu(linear1(x))); }
};

struct Case {
  const char* name;
  std::vector<int64_t> input;
  int64_t out;
  bool bias;
};

class AdaptedLinear : public testing::TestWithParam<Case> {};

// y, dx, dA, dB and dbias against the definition, dense and in float64.
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

  expect_close(y, y64);
  expect_close(x.grad(), x64.grad());
  expect_close(info.a.grad(), a64.grad());
  expect_close(info.b.grad(), b64.grad());
  if (bias) expect_close(layer->bias.grad(), bias64.grad());
  EXPECT_FALSE(layer->weight.grad().defined());
  EXPECT_EQ(adapter.layers().at(0).path, LayerPath::kFast) << "W + s B A was formed";
}

INSTANTIATE_TEST_SUITE_P(
    Inputs, AdaptedLinear,
    testing::Values(Case{"matrix", {5, 8}, 6, true}, Case{"matrix_no_bias", {5, 8}, 6, false},
                    Case{"sequence", {3, 4, 8}, 6, true},
                    Case{"sequence_no_bias", {3, 4, 8}, 6, false}, Case{"vector", {8}, 6, true},
                    Case{"four", {2, 3, 4, 8}, 6, true}, Case{"square", {5, 8}, 8, true},
                    Case{"square_no_bias", {5, 8}, 8, false}, Case{"one_out", {5, 8}, 1, true},
                    Case{"empty", {0, 8}, 6, true}),
    [](const auto& test) { return test.param.name; });

TEST(Adapter, TakesTransposedAndStridedInputs) {
  at::manual_seed(2);
  Linear layer(8, 6);
  auto adapter = attach(*layer, {.rank = 2});
  randomize(adapter);
  const auto wide = at::randn({8, 10});
  const auto expected = layer->forward(wide.t().contiguous());
  expect_close(layer->forward(wide.t()), expected);
  expect_close(layer->forward(wide.t().slice(0, 0, 10, 3)), expected.slice(0, 0, 10, 3));
}

TEST(Adapter, CanBeDifferentiatedTwice) {
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

TEST(Adapter, StartsAsTheBase) {
  Net net;
  const auto x = at::randn({5, 8});
  const auto base = net.forward(x);
  auto adapter = attach(net, {.rank = 2, .target_modules = {"linear1", "linear2"}});
  EXPECT_TRUE(at::equal(net.forward(x), base));
}

TEST(Adapter, FreezesAllButTheFactors) {
  Net net;
  auto adapter = attach(net, {.rank = 2, .target_modules = {"linear1"}});
  for (const auto& parameter : net.parameters()) EXPECT_FALSE(parameter.requires_grad());
  EXPECT_EQ(adapter.parameters().size(), 2U);
  EXPECT_EQ(adapter.parameter_count(), 2 * 8 + 6 * 2);
  for (const auto& factor : adapter.parameters()) EXPECT_TRUE(factor.requires_grad());
}

TEST(Adapter, TellsWhichLayersNoForwardReaches) {
  Net net;
  auto adapter = attach(net, {.rank = 1, .target_modules = {"all-linear"}});
  EXPECT_EQ(adapter.unreached_layers().size(), 3U);
  net.forward(at::randn({2, 8}));
  EXPECT_EQ(adapter.unreached_layers(), std::vector<std::string>{"spare"});
}

TEST(Adapter, IsOffBitForBit) {
  at::manual_seed(4);
  Net net;
  const auto x = at::randn({5, 8}), rows = at::randn({2, 3, 8});
  const auto base = net.forward(x), base_rows = net.forward(rows);
  auto adapter = attach(net, {.rank = 2, .target_modules = {"linear1", "linear2"}});
  randomize(adapter);
  EXPECT_FALSE(at::equal(net.forward(x), base));
  {
    const DisableAdapter off(adapter);
    EXPECT_TRUE(at::equal(net.forward(x), base));
    EXPECT_TRUE(at::equal(net.forward(rows), base_rows));
  }
  EXPECT_FALSE(at::equal(net.forward(x), base));
  adapter.disable();
  EXPECT_TRUE(at::equal(net.forward(x), base));
  adapter.enable();
  EXPECT_FALSE(at::equal(net.forward(x), base));
}

TEST(Adapter, ScopeEndsBeforeBackward) {
  at::manual_seed(5);
  Net net;
  const auto x = at::randn({5, 8}).requires_grad_();
  net.forward(x).sum().backward();
  const auto base = x.grad().clone();
  x.mutable_grad().reset();
  auto adapter = attach(net, {.rank = 2, .target_modules = {"linear1", "linear2"}});
  randomize(adapter);
  at::Tensor y;
  {
    const DisableAdapter off(adapter);
    y = net.forward(x);
  }
  y.sum().backward();
  EXPECT_TRUE(at::equal(x.grad(), base));
}

TEST(Adapter, ScopeIsOfOneThread) {
  at::manual_seed(6);
  Net net;
  const auto x = at::randn({5, 8});
  auto adapter = attach(net, {.rank = 2, .target_modules = {"linear1"}});
  randomize(adapter);
  const auto on = net.forward(x).detach();
  const DisableAdapter off(adapter);
  at::Tensor elsewhere;
  std::thread([&] { elsewhere = net.forward(x).detach(); }).join();
  EXPECT_TRUE(at::equal(elsewhere, on));
  EXPECT_FALSE(at::equal(net.forward(x).detach(), on));
}

TEST(Adapter, MergesAndRestoresBitForBit) {
  at::manual_seed(7);
  Net net;
  const auto x = at::randn({5, 8});
  auto adapter = attach(net, {.rank = 2, .target_modules = {"linear1", "linear2"}});
  randomize(adapter);
  const auto fingerprint = base_fingerprint(net);
  const auto on = net.forward(x);
  adapter.merge();
  EXPECT_TRUE(adapter.merged());
  expect_close(net.forward(x), on);
  EXPECT_NE(base_fingerprint(net), fingerprint);
  LOWRANK_EXPECT_ERROR(adapter.merge(), TensorError, "[merge] the adapter must not be merged yet");
  LOWRANK_EXPECT_ERROR(DisableAdapter{adapter}, TensorError, "Unmerge it first.");
  adapter.unmerge();
  EXPECT_EQ(base_fingerprint(net), fingerprint);
  EXPECT_TRUE(at::equal(net.forward(x), on));
  LOWRANK_EXPECT_ERROR(adapter.unmerge(), TensorError, "[unmerge] the adapter must be merged");
}

TEST(Adapter, RefusesToMergeWhatIsNotFiniteAndChangesNothing) {
  Net net;
  auto adapter = attach(net, {.rank = 2, .target_modules = {"linear1", "linear2"}});
  randomize(adapter);
  const auto fingerprint = base_fingerprint(net);
  {
    const at::NoGradGuard no_grad;
    adapter.layers().at(1).b.fill_(std::numeric_limits<float>::infinity());
  }
  LOWRANK_EXPECT_ERROR(adapter.merge(), TensorError, "Got NaN or Inf in \"linear2\"");
  EXPECT_FALSE(adapter.merged());
  EXPECT_EQ(base_fingerprint(net), fingerprint);
}

TEST(Adapter, LeavesTheModelAsItWas) {
  at::manual_seed(8);
  Net net;
  net.linear1->bias.set_requires_grad(false);
  const auto x = at::randn({5, 8});
  const auto base = net.forward(x);
  const auto data = net.linear1->weight.data_ptr();
  auto adapter = attach(net, {.rank = 2, .target_modules = {"linear1"}});
  randomize(adapter);
  net.forward(x);
  adapter.merge();
  adapter.detach();
  EXPECT_TRUE(at::equal(net.forward(x), base));
  EXPECT_EQ(net.linear1->weight.data_ptr(), data);
  EXPECT_TRUE(net.linear1->weight.requires_grad());
  EXPECT_FALSE(net.linear1->bias.requires_grad());
  EXPECT_NO_THROW(attach(net, {.rank = 1, .target_modules = {"linear1"}}).detach());
}

TEST(Adapter, StaysWhenItsHandleIsGone) {
  at::manual_seed(9);
  Net net;
  const auto x = at::randn({5, 8});
  const auto base = net.forward(x);
  randomize(attach(net, {.rank = 2, .target_modules = {"linear1"}}));
  EXPECT_FALSE(at::equal(net.forward(x), base));
}

TEST(Adapter, FollowsCastsAndClones) {
  at::manual_seed(10);
  torch::nn::Sequential net(Linear(8, 6), torch::nn::ReLU(), Linear(6, 3));
  const auto x = at::randn({5, 8});
  auto adapter = attach(*net, {.rank = 2});
  randomize(adapter);
  const auto on = net->forward(x);
  const auto clone = std::dynamic_pointer_cast<torch::nn::SequentialImpl>(net->clone());
  expect_close(clone->forward(x), on);
  net->to(at::kDouble);
  expect_close(net->forward(x.to(at::kDouble)), on);
  net->to(at::kFloat);
  expect_close(net->forward(x), on);
  adapter.disable();
  EXPECT_FALSE(at::equal(net->forward(x), on));
}

TEST(Adapter, AdaptsAModelThatIsOneLayer) {
  Linear layer(8, 6);
  auto adapter = attach(*layer, {.rank = 2});
  EXPECT_EQ(adapter.layers().at(0).name, "");
  layer->forward(at::randn({2, 8}));
  EXPECT_TRUE(adapter.unreached_layers().empty());
}

TEST(Adapter, ChecksItsConfig) {
  Net net;
  const auto with = [&](const LoraConfig& config) { attach(net, config); };
  LOWRANK_EXPECT_ERROR(with({.rank = 0}), ArgumentError,
                       "[attach] rank must be at least 1. Got 0.");
  LOWRANK_EXPECT_ERROR(with({.rank = -3}), ArgumentError, "Got -3.");
  LOWRANK_EXPECT_ERROR(with({.alpha = 0}), ArgumentError, "alpha must be finite and not 0. Got 0.");
  LOWRANK_EXPECT_ERROR(with({.alpha = std::nan("")}), ArgumentError, "Got nan.");
  LOWRANK_EXPECT_ERROR(with({.target_modules = {}}), ArgumentError, "at least one layer");
  LOWRANK_EXPECT_ERROR(
      with({.target_modules = {"linaer1"}}), ArgumentError,
      "[attach] each of target_modules must match a layer. Got \"linaer1\", which matches none of "
      "linear1, linear2, spare. Did you mean \"linear1\"?");
  LOWRANK_EXPECT_ERROR(with({.target_modules = {"linear1", "nothing"}}), ArgumentError,
                       "\"nothing\"");
  LOWRANK_EXPECT_ERROR(
      with({.target_modules = {"relu"}}), ArgumentError,
      "target_modules must match layers with a weight of two or more dimensions. Got "
      "\"relu\", which matches \"relu\", a ReLU.");
  for (const auto& parameter : net.parameters()) EXPECT_TRUE(parameter.requires_grad());
}

TEST(Adapter, RefusesASecondAdapterAndSharedWeights) {
  Net net;
  auto adapter = attach(net, {.rank = 1, .target_modules = {"linear1"}});
  LOWRANK_EXPECT_ERROR(attach(net, {.target_modules = {"linear1"}}), TensorError,
                       "\"linear1\", which is adapted already");
  Net tied;
  tied.spare->weight = tied.linear2->weight;
  LOWRANK_EXPECT_ERROR(attach(tied, {.target_modules = {"linear2"}}), TensorError,
                       "an adapted weight must belong to one layer");
}

// Two weights that lie side by side in one buffer are two weights.
TEST(Adapter, TellsSlicesOfOneStorageApart) {
  at::manual_seed(11);
  Net net;
  const auto buffer = at::randn({4, 6});
  const auto x = at::randn({5, 6});
  net.linear2->weight.set_data(buffer.slice(0, 0, 2));
  net.spare->weight.set_data(buffer.slice(0, 2, 4));
  net.linear2->bias.set_data(at::zeros({2}));
  net.spare->bias.set_data(at::zeros({2}));
  auto adapter = attach(net, {.rank = 1, .target_modules = {"linear2", "spare"}});
  randomize(adapter);
  const auto layers = adapter.layers();
  for (size_t i = 0; i < 2; ++i) {
    const auto expected =
        x.mm((buffer.slice(0, 2 * i, 2 * i + 2) + 8 * layers[i].b.mm(layers[i].a)).t());
    expect_close((i == 0 ? net.linear2 : net.spare)->forward(x), expected);
  }
}

TEST(Adapter, KeepsHalfTypesAsPeftDoes) {
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
