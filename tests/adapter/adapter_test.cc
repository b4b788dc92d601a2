#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>
#include <lowrank/adapter/adapter.h>
#include <lowrank/error.h>
#include <lowrank/optim/accelerate.h>
#include <torch/nn/modules/activation.h>
#include <torch/nn/modules/container/sequential.h>
#include <torch/nn/modules/linear.h>

#include <cmath>
#include <limits>
#include <thread>

#include "support/dense_reference.h"
#include "support/expect_error.h"

namespace lowrank {
namespace {

using torch::nn::Linear;

/// A model with a name that is easy to misspell, a shared weight and a layer that no forward reads.
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

TEST(Adapter, StartsAsTheBase) {
  Net net;
  const auto x = at::randn({5, 8});
  const auto base = net.forward(x);
  auto adapter = attach(net, {.rank = 2, .target_modules = {"linear1", "linear2"}});
  EXPECT_TRUE(at::allclose(net.forward(x), base, 1e-5, 1e-6)) << "to rounding: other kernels";
}

TEST(Adapter, StartsAsTheAcceleratedBaseBitForBit) {
  Net net;
  const auto x = at::randn({5, 8});
  const auto fast = accelerate(net);
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
  EXPECT_LE(relative_error(net.forward(x), on), 1e-6);
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
  EXPECT_LE(relative_error(clone->forward(x), on), 1e-6);
  net->to(at::kDouble);
  EXPECT_LE(relative_error(net->forward(x.to(at::kDouble)), on), 1e-6);
  net->to(at::kFloat);
  EXPECT_LE(relative_error(net->forward(x), on), 1e-6);
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

// Two weights next to each other in one buffer are different weights.
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
    EXPECT_LE(relative_error((i == 0 ? net.linear2 : net.spare)->forward(x), expected), 1e-6);
  }
}

}  // namespace
}  // namespace lowrank
