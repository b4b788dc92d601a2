// Covers misuse of src/adapter.

#include <gtest/gtest.h>
#include <lowrank/error.h>
#include <torch/nn/modules/container/sequential.h>
#include <torch/nn/modules/embedding.h>
#include <torch/nn/modules/linear.h>
#include <torch/script.h>

#include "support/dense_reference.h"
#include "support/expect_error.h"
#include "support/temporary_folder.h"

// Unplanned uses of a handle must be refused, or give the right result.
namespace lowrank {
namespace {

namespace nn = torch::nn;

struct Pair : nn::Module {
  nn::Linear first{nullptr}, second{nullptr};

  Pair() {
    first = register_module("first", nn::Linear(8, 6));
    second = register_module("second", nn::Linear(6, 3));
  }
  at::Tensor forward(const at::Tensor& x) { return second(at::tanh(first(x))); }
};

class Misuse : public testing::Test {
 protected:
  Misuse() { at::manual_seed(6); }

  at::Tensor output() {
    const at::NoGradGuard no_grad;
    return net_.forward(x_);
  }

  Pair net_;
  at::Tensor x_ = at::randn({4, 8});
};

TEST_F(Misuse, BiasesOfAMixedBatchAreTakenRowByRow) {
  for (const auto& config : std::vector<LoraConfig>{
           {.rank = 2, .target_modules = {"first"}, .lora_bias = true},
           {.rank = 2, .lora_bias = true},
           {.rank = 2, .target_modules = {"first"}, .bias = BiasMode::kLoraOnly},
           {.rank = 2, .target_modules = {"first"}, .bias = BiasMode::kAll}}) {
    auto adapter = attach(net_, config, "one");
    adapter.add("two", config);
    for (const auto* name : {"one", "two"}) randomize(adapter, name);
    auto expected = at::Tensor();
    {
      const DisableAdapter off(adapter);
      expected = output().clone();
    }
    for (const auto& [row, name] : {std::pair{0, "one"}, {1, "two"}, {3, "two"}}) {
      const auto use = adapter.use(name);
      expected[row].copy_(output()[row]);
    }
    {
      const auto rows = adapter.use_rows({"one", "two", "", "two"});
      EXPECT_LE(relative_error(output(), expected), 1e-6);
    }
    adapter.detach();
  }
}

TEST_F(Misuse, ListsOfWeightsAreWrittenTo) {
  auto adapter = attach(net_, {.rank = 2});
  randomize(adapter);
  const auto on = output();
  adapter.disable();
  const auto stored = net_.first->weight.clone();
  adapter.enable();
  {
    const at::NoGradGuard no_grad;
    at::_foreach_mul_(net_.parameters(), 2.0);
  }
  EXPECT_FALSE(at::equal(output(), on));
  adapter.disable();
  EXPECT_TRUE(at::equal(net_.first->weight, stored * 2));
}

TEST_F(Misuse, ANameTwiceIsRefused) {
  auto adapter = attach(net_, {.rank = 2}, "one");
  LOWRANK_EXPECT_ERROR(adapter.set_active({"one", "one"}), ArgumentError,
                       "each adapter can be named once. Got \"one\" twice.");
  LOWRANK_EXPECT_ERROR((void)adapter.use({"one", "one"}), ArgumentError, "\"one\" twice");
  LOWRANK_EXPECT_ERROR(adapter.merge({"one", "one"}), ArgumentError, "\"one\" twice");
  EXPECT_FALSE(adapter.merged());
}

TEST_F(Misuse, WhatStartsFromTheBaseIsNotMadeWhileMerged) {
  auto adapter = attach(net_, {.rank = 2}, "one");
  randomize(adapter);
  adapter.merge();
  for (const auto& config :
       std::vector<LoraConfig>{{.rank = 2, .use_dora = true},
                               {.rank = 2, .init = LoraInit::kPissa},
                               {.rank = 2, .target_modules = {"first"}, .bias = BiasMode::kAll}}) {
    LOWRANK_EXPECT_ERROR(adapter.add("two", config), TensorError,
                         "\"two\" starts from the base, which must be in the weights");
  }
  adapter.add("two", {.rank = 2});
}

TEST_F(Misuse, WritesWhileMergedCanBeDiscarded) {
  const auto before = net_.first->weight.detach().clone();
  auto adapter = attach(net_, {.rank = 2});
  randomize(adapter);
  adapter.merge();
  {
    const at::NoGradGuard no_grad;
    net_.first->weight.mul_(0.5);
  }
  LOWRANK_EXPECT_ERROR(adapter.unmerge(), TensorError, "discard_writes goes back");
  LOWRANK_EXPECT_ERROR(adapter.detach(), TensorError, "discard_writes goes back");
  adapter.unmerge({}, {.discard_writes = true});
  adapter.detach();
  EXPECT_TRUE(at::equal(net_.first->weight, before));
}

TEST_F(Misuse, MergingInsideOfAScopeIsRefused) {
  auto adapter = attach(net_, {.rank = 2}, "one");
  randomize(adapter);
  {
    const auto use = adapter.use({"one"});
    LOWRANK_EXPECT_ERROR(adapter.merge(), TensorError,
                         "merge must be called outside of use scopes");
  }
  adapter.merge();
}

TEST_F(Misuse, AnAdapterAfterDetachFreezesTheBaseAgain) {
  auto adapter = attach(net_, {.rank = 2});
  adapter.detach();
  EXPECT_TRUE(net_.first->weight.requires_grad());
  adapter.add("next", {.rank = 2});
  adapter.set_active({"next"});
  for (const auto& parameter : net_.parameters()) EXPECT_FALSE(parameter.requires_grad());
  adapter.detach();
  for (const auto& parameter : net_.parameters()) EXPECT_TRUE(parameter.requires_grad());
}

TEST_F(Misuse, AFailedAttachLeavesTheModelAsItWas) {
  const auto both = at::randn({6, 14});  // each row holds a row of two weights
  nn::Sequential net(nn::Linear(8, 6), nn::Linear(6, 6));
  net->named_parameters()["0.weight"].set_data(both.slice(1, 0, 8));
  net->named_parameters()["1.weight"].set_data(both.slice(1, 8, 14));
  LOWRANK_EXPECT_ERROR(attach(*net, {.rank = 2}), TensorError, "must not overlap in memory");
  for (const auto& parameter : net->parameters()) EXPECT_TRUE(parameter.requires_grad());
  auto adapter = attach(*net, {.rank = 2, .target_modules = {"0"}});
  randomize(adapter);
  expect_dense(
      *net, adapter, [&] { return net->forward(x_); }, [](const auto& /*any*/) { return false; });
}

TEST_F(Misuse, NamesThatAreWordsOfTheFileAreLoadedAgain) {
  const TemporaryFolder folder;
  for (const auto* name : {"weight", "bias", "lora_A"}) {
    auto adapter = attach(net_, {.rank = 2, .target_modules = {"first"}, .lora_bias = true}, name);
    randomize(adapter);
    const auto on = output();
    adapter.save_all(folder / "all");
    adapter.detach();
    auto loaded = load_adapter(net_, folder / "all", name);
    EXPECT_TRUE(at::equal(output(), on)) << name;
    loaded.adapter.detach();
  }
  auto adapter = attach(net_, {.rank = 2});
  LOWRANK_EXPECT_ERROR(adapter.add("a\nb", {.rank = 2}), ArgumentError, "control characters");
}

TEST_F(Misuse, AnAdapterOfALayerWithoutANameIsNotSaved) {
  const TemporaryFolder folder;
  nn::Linear layer(8, 6);
  const auto adapter = attach(*layer, {.rank = 2});
  LOWRANK_EXPECT_ERROR(adapter.save(folder / "one"), TensorError,
                       "the layers of an adapter that is saved must have names");
  EXPECT_FALSE(std::filesystem::exists(folder / "one"));
}

TEST_F(Misuse, FactorsOfASparseEmbeddingAreTrained) {
  nn::Sequential net(nn::Embedding(nn::EmbeddingOptions(10, 4).sparse(true)));
  auto adapter = attach(*net, {.rank = 2, .target_modules = {"0"}});
  randomize(adapter);
  net->forward(at::tensor({1, 3, 3})).sum().backward();
  for (const auto& parameter : adapter.parameters()) {
    ASSERT_TRUE(parameter.grad().defined());
    EXPECT_GT(parameter.grad().abs().sum().item<double>(), 0);
  }
}

TEST_F(Misuse, WhatTwoLayersShareIsNotTrainedWhole) {
  net_.register_module("third", nn::Linear(6, 3))->weight = net_.second->weight;
  LOWRANK_EXPECT_ERROR(
      attach(net_, {.rank = 2, .target_modules = {"first"}, .modules_to_save = {"second"}}),
      TensorError, "\"second.weight\" and \"third.weight\", which are one tensor");
}

TEST_F(Misuse, AScriptThatIsDroppedIsFreed) {
  c10::weak_intrusive_ptr<c10::TensorImpl> weight(at::empty({0}).getIntrusivePtr());  // set below
  {
    auto module = torch::jit::load(std::string(LOWRANK_FIXTURES) + "/reader_scripted.pt");
    auto adapter = attach(module, {.rank = 2, .target_modules = {"linear1"}});
    weight = module.attr("linear1").toModule().attr("weight").toTensor().getIntrusivePtr();
    module.forward({at::zeros({2, 4}, at::kLong)});
    EXPECT_FALSE(weight.expired());
  }
  EXPECT_TRUE(weight.expired());
}

}  // namespace
}  // namespace lowrank
