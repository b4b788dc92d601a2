#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <lowrank/adapter/adapter.h>
#include <lowrank/error.h>
#include <torch/nn/modules/container/sequential.h>
#include <torch/nn/modules/linear.h>

#include "support/dense_reference.h"
#include "support/expect_error.h"

namespace lowrank {
namespace {

torch::nn::Sequential make_net() {
  at::manual_seed(3);
  torch::nn::Sequential net(torch::nn::Linear(5, 4), torch::nn::Linear(4, 3));
  return net;
}

TEST(AdapterOf, GivesTheSameAdaptersWhileThereIsAHandle) {
  auto net = make_net();
  EXPECT_FALSE(adapter_of(*net).has_value());
  auto adapter = attach(*net, {.rank = 2}, "one");
  auto again = adapter_of(*net);
  ASSERT_TRUE(again.has_value());
  again->add("two", {.rank = 1});
  EXPECT_EQ(adapter.names(), (std::vector<std::string>{"one", "two"}));
  adapter.detach();
  EXPECT_FALSE(adapter_of(*net).has_value());
}

TEST(AdapterOf, GivesAHandleWhenAllAreGone) {
  auto net = make_net();
  const auto x = at::randn({2, 5});
  const auto base = net->forward(x).detach();
  {
    auto adapter = attach(*net, {.rank = 2, .alpha = 3}, "one");
    randomize(adapter);
  }
  const auto on = net->forward(x).detach();
  EXPECT_FALSE(at::equal(on, base)) << "the model stays adapted";
  for (int i = 0; i < 2; ++i) {  // it can be found, lost and found again
    auto found = adapter_of(*net);
    ASSERT_TRUE(found.has_value());
    EXPECT_EQ(found->names(), std::vector<std::string>{"one"});
    EXPECT_EQ(found->layers().at(0).parameter, "0.weight");
    found->disable();
    EXPECT_TRUE(at::equal(net->forward(x).detach(), base));
    found->enable();
    EXPECT_TRUE(at::equal(net->forward(x).detach(), on));
  }
  auto found = adapter_of(*net);
  found->merge();
  found->unmerge();
  found->detach();
  EXPECT_TRUE(at::equal(net->forward(x).detach(), base));
  for (const auto& parameter : net->parameters()) EXPECT_TRUE(parameter.requires_grad());
}

TEST(AdapterOf, KeepsNothingOfAModelThatIsGone) {
  at::Tensor factor;
  c10::weak_intrusive_ptr<c10::TensorImpl, c10::UndefinedTensorImpl> weight(
      at::zeros({1}).getIntrusivePtr());
  {
    auto net = make_net();
    weight = net->parameters()[0].getIntrusivePtr();
    factor = attach(*net, {.rank = 2}).layers().at(0).a;
    EXPECT_FALSE(weight.expired());
  }
  EXPECT_TRUE(weight.expired());
  EXPECT_EQ(factor.use_count(), 1U) << "the factors are gone, but for the one that is held here";
}

TEST(AdapterOf, DoesNotTakeACopyForTheOriginal) {
  auto net = make_net();
  auto adapter = attach(*net, {.rank = 2});
  const auto copy = net->clone();
  EXPECT_FALSE(adapter_of(*copy).has_value());
}

TEST(MergeAndUnload, LeavesAnOrdinaryModelWithTheNewWeights) {
  auto net = make_net();
  auto adapter = attach(*net, {.rank = 2, .alpha = 3});
  randomize(adapter);
  const auto layers = adapter.layers();
  std::vector<at::Tensor> expected;
  for (const auto& layer : layers) expected.push_back(effective_weight(layer).detach());
  const auto report = adapter.merge_and_unload();
  EXPECT_EQ(report.size(), 2U);
  EXPECT_FALSE(adapter_of(*net).has_value());
  EXPECT_TRUE(adapter.names().empty());
  for (size_t i = 0; i < layers.size(); ++i) {
    const auto weight = net->named_parameters()[layers[i].parameter];
    EXPECT_LE(relative_error(weight.detach(), expected[i]), 1e-6);
    EXPECT_TRUE(weight.requires_grad());
  }
  attach(*net, {.rank = 1}).detach();
}

}  // namespace
}  // namespace lowrank
