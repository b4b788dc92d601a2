// Covers what src/adapter/adapter.cc tells of one layer: its weight, its update, what reads it.

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>
#include <lowrank/adapter/adapter.h>
#include <lowrank/error.h>
#include <lowrank/linalg/factorize.h>
#include <torch/nn/modules/container/sequential.h>
#include <torch/nn/modules/conv.h>
#include <torch/nn/modules/embedding.h>
#include <torch/nn/modules/linear.h>

#include "support/dense_reference.h"
#include "support/expect_error.h"
#include "support/temporary_folder.h"

namespace lowrank {
namespace {

namespace nn = torch::nn;

class OneLayer : public testing::Test {
 protected:
  OneLayer() : net_(nn::Linear(6, 5), nn::Embedding(7, 6), nn::Conv2d(nn::Conv2dOptions(2, 4, 3))) {
    at::manual_seed(4);
    for (const auto& item : net_->named_parameters()) {
      base_[item.key()] = item.value().detach().clone();
    }
  }
  Adapter adapt(LoraConfig config) {
    config.target_modules = {"0", "1", "2"};
    auto adapter = attach(*net_, config);
    randomize(adapter);
    return adapter;
  }

  nn::Sequential net_;
  std::map<std::string, at::Tensor> base_;
};

TEST_F(OneLayer, HasTheBasesWeightAsAnOrdinaryTensor) {
  const auto adapter = adapt({.rank = 2, .alpha = 3});
  for (const auto& layer : adapter.layers()) {
    const auto& w = base_.at(layer.parameter);
    EXPECT_TRUE(at::equal(layer.weight, w)) << layer.parameter;
    EXPECT_TRUE(at::equal(layer.weight + 0, w));
    EXPECT_TRUE(at::equal(layer.weight.to(at::kDouble), w.to(at::kDouble)));
    // An embedding's table is adapted where it is looked up, every other weight wherever it is
    // read.
    if (layer.name == "1") continue;
    EXPECT_FALSE(at::equal(parameter_of(*net_, layer.parameter), w)) << "the model's is adapted";
  }
  const auto linear = adapter.layers().at(0);
  const auto sum = (linear.weight + linear.scaling * linear.b.mm(linear.a)).detach();
  EXPECT_LE(relative_error(parameter_of(*net_, "0.weight").detach().clone(), sum), 1e-6);
  EXPECT_EQ(factorize(linear.weight, RankRule::number(2)).b.size(1), 2);
}

TEST_F(OneLayer, HasAnUpdateAndAnEffectiveWeight) {
  for (const bool dora : {false, true}) {
    auto adapter = adapt({.rank = 2, .alpha = 3, .use_dora = dora});
    for (const auto& layer : adapter.layers()) {
      const bool transposed = layer.name == "1";
      const auto delta = delta_weight(layer);
      EXPECT_EQ(delta.sizes(), layer.weight.sizes());
      EXPECT_LE(relative_error(delta.detach(), dense_delta(layer, transposed)), 1e-6);
      const auto effective = effective_weight(layer);
      // Any operator reads the model's own parameter as the effective weight.
      const auto meant = at::Tensor(parameter_of(*net_, layer.parameter) + 0).detach();
      if (!transposed) {
        EXPECT_LE(relative_error(effective.detach(), meant), 1e-6) << layer.name;
      }
      effective.sum().backward();
      EXPECT_TRUE(layer.a.grad().defined() && layer.b.grad().defined());
    }
    adapter.detach();
  }
}

TEST_F(OneLayer, SubtractsWhatItsInitialisationTookOffTheBase) {
  nn::Sequential net(nn::Linear(6, 5));
  auto adapter = attach(*net, {.rank = 2, .init = LoraInit::kPissa});
  const auto layer = adapter.layers().at(0);
  ASSERT_TRUE(layer.initial_a.defined());
  EXPECT_LE(delta_weight(layer).detach().norm().item<double>(), 1e-5);
}

TEST_F(OneLayer, IsLostWhenItsWeightIsAssignedAnew) {
  struct Net : nn::Module {
    nn::Linear first = register_module("first", nn::Linear(4, 4));
    nn::Linear second = register_module("second", nn::Linear(4, 4));
    at::Tensor forward(const at::Tensor& x) { return second(first(x)); }
  };
  const auto net = std::make_shared<Net>();
  auto adapter = attach(*net, {.rank = 2});
  randomize(adapter);
  const auto old = net->first->weight;
  net->first->weight = at::randn({4, 4});
  net->forward(at::randn({2, 4}));
  EXPECT_EQ(adapter.layers().at(0).path, LayerPath::kLost);
  EXPECT_EQ(adapter.layers().at(1).path, LayerPath::kFactored);
  EXPECT_EQ(adapter.unreached_layers(), std::vector<std::string>{"first"});
  const char* message = "a module that was given another tensor as first.weight";
  LOWRANK_EXPECT_ERROR(adapter.merge(), TensorError, message);
  const TemporaryFolder folder;
  LOWRANK_EXPECT_ERROR(adapter.save(folder / "a"), TensorError, message);
  EXPECT_FALSE(std::filesystem::exists(folder / "a"));
  net->first->weight = old;
  adapter.merge();
  adapter.detach();
}

/// The pooler of a sentence encoder: its forward runs, and no loss depends on it.
TEST_F(OneLayer, MayGetNoGradient) {
  struct Encoder : nn::Module {
    nn::Linear body = register_module("body", nn::Linear(4, 4));
    nn::Linear pooler = register_module("pooler", nn::Linear(4, 4));
    nn::Linear unused = register_module("unused", nn::Linear(4, 4));
    at::Tensor forward(const at::Tensor& x) {
      const auto y = body(x);
      pooler(y);
      return y;
    }
  } net;
  auto adapter = attach(net, {.rank = 2});
  const auto y = net.forward(at::randn({2, 4}));
  EXPECT_TRUE(adapter.layers_without_gradient().empty()) << "before any backward pass";
  y.sum().backward();
  EXPECT_EQ(adapter.layers_without_gradient(), std::vector<std::string>{"pooler"});
  EXPECT_EQ(adapter.unreached_layers(), std::vector<std::string>{"unused"});
}

TEST_F(OneLayer, IsChosenByAListThatTheProgramHas) {
  const std::vector<std::string> names = {"0"};
  auto adapter = attach(*net_, {.rank = 2, .target_modules = names});
  EXPECT_EQ(adapter.layers().size(), 1U);
  adapter.set_active({});
  adapter.set_active("default");
  EXPECT_EQ(adapter.active(), std::vector<std::string>{"default"});
  LOWRANK_EXPECT_ERROR(static_cast<void>(adapter.use_rows({})), ArgumentError,
                       "a name for each row");
}

}  // namespace
}  // namespace lowrank
