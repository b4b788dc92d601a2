// Covers several adapters on one model: src/adapter/adapter.cc, state.cc and src/effective.

#include <gtest/gtest.h>
#include <lowrank/error.h>

#include <limits>
#include <thread>

#include "app/models/mlp.h"
#include "support/dense_reference.h"
#include "support/expect_error.h"

// Several adapters on one model: switching, scaling, mixed batches, scopes, threads.
namespace lowrank {
namespace {

using app::Mlp;
using app::MlpOptions;

class ManyAdapters : public testing::Test {
 protected:
  ManyAdapters() {
    at::manual_seed(1);
    model_ = Mlp(MlpOptions{.sizes = {8, 6, 3}});
    x_ = at::randn({5, 8});
    const at::NoGradGuard no_grad;
    base_ = model_->forward(x_);
    adapter_ = std::make_unique<Adapter>(attach(*model_, {.rank = 2, .alpha = 3}, "one"));
    adapter_->add("two", {.rank = 3, .alpha = 1, .target_modules = {"linear1"}});
    for (const auto* name : {"one", "two"}) randomize(*adapter_, name);
  }

  at::Tensor output() {
    const at::NoGradGuard no_grad;
    return model_->forward(x_);
  }

  /// Returns the output of a dense model with W + Σ s·B·A of these adapters, each times its weight.
  at::Tensor dense_output(const std::vector<std::pair<std::string, double>>& weighted) {
    const at::NoGradGuard no_grad;
    const DisableAdapter off(*adapter_);
    std::vector<std::pair<std::string, at::Tensor>> stored;
    for (const auto& item : model_->named_parameters()) {
      stored.emplace_back(item.key(), item.value() + 0);
    }
    Mlp fresh(MlpOptions{.sizes = {8, 6, 3}});
    for (const auto& [name, value] : stored) fresh->named_parameters()[name].copy_(value);
    for (const auto& [name, weight] : weighted) {
      for (const auto& layer : adapter_->layers(name)) {
        fresh->named_parameters()[layer.name + ".weight"].add_(
            (weight * dense_delta(layer, false)).to(at::kFloat));
      }
    }
    return fresh->forward(x_);
  }

  void expect_output(const std::vector<std::pair<std::string, double>>& weighted) {
    EXPECT_LE(relative_error(output(), dense_output(weighted)), 1e-5);
  }

  Mlp model_{nullptr};
  at::Tensor x_, base_;
  std::unique_ptr<Adapter> adapter_;
};

TEST_F(ManyAdapters, SwitchesAddsUpAndScales) {
  EXPECT_EQ(adapter_->names(), (std::vector<std::string>{"one", "two"}));
  expect_output({{"one", 1}});
  adapter_->set_active({"two"});
  expect_output({{"two", 1}});
  adapter_->set_active({"one", "two"});
  expect_output({{"one", 1}, {"two", 1}});
  adapter_->set_scale("two", -0.5);
  expect_output({{"one", 1}, {"two", 1}});  // layers() gives the scaling in use
  EXPECT_DOUBLE_EQ(adapter_->layers("two")[0].scaling, -0.5 / 3);
  adapter_->set_active({});
  EXPECT_TRUE(at::equal(output(), base_));
  adapter_->set_active({"one"});
  adapter_->disable();
  EXPECT_TRUE(at::equal(output(), base_));
  adapter_->enable();
  expect_output({{"one", 1}});
}

TEST_F(ManyAdapters, AScopeHoldsOnItsThreadAlone) {
  const auto one = output();
  {
    const auto use = adapter_->use("two");
    expect_output({{"two", 1}});
    at::Tensor elsewhere;
    std::thread([&] { elsewhere = output(); }).join();
    EXPECT_TRUE(at::equal(elsewhere, one));
    {
      const DisableAdapter off(*adapter_);
      EXPECT_TRUE(at::equal(output(), base_));
    }
    expect_output({{"two", 1}});
    adapter_->set_active({});
    expect_output({{"two", 1}});
  }
  EXPECT_TRUE(at::equal(output(), base_)) << "what was published in the scope holds after it";
}

TEST_F(ManyAdapters, GradientsGoToTheAdaptersThatHold) {
  adapter_->set_active({"one", "two"});
  model_->forward(x_).sum().backward();
  for (const auto* name : {"one", "two"}) {
    for (const auto& parameter : adapter_->parameters(name)) {
      ASSERT_TRUE(parameter.grad().defined());
      parameter.mutable_grad().reset();
    }
  }
  {
    const auto use = adapter_->use("two");
    model_->forward(x_).sum().backward();
  }
  for (const auto& p : adapter_->parameters("one")) EXPECT_FALSE(p.grad().defined());
  for (const auto& p : adapter_->parameters("two")) EXPECT_TRUE(p.grad().defined());
}

TEST_F(ManyAdapters, AMixedBatchTakesRowsApart) {
  const std::vector<std::string> names = {"two", "", "one", "two", "__base__"};
  at::Tensor expected = base_.clone();
  for (const auto* name : {"one", "two"}) {
    const auto use = adapter_->use(name);
    const auto all = output();
    for (size_t i = 0; i < names.size(); ++i) {
      const auto row = static_cast<int64_t>(i);
      if (names[i] == name) expected[row].copy_(all[row]);
    }
  }
  {
    const auto use = adapter_->use_rows(names);
    EXPECT_LE(relative_error(output(), expected), 1e-6);
    LOWRANK_EXPECT_ERROR(model_->forward(x_.slice(0, 0, 3)), TensorError,
                         "the input of \"linear1\" must have the batch's 5 rows in its first "
                         "dimension. Got 3.");
    LOWRANK_EXPECT_ERROR(model_->named_parameters()["linear1.weight"].abs(), TensorError,
                         "must be read by a linear layer");
  }
  LOWRANK_EXPECT_ERROR((void)adapter_->use_rows({"three"}), ArgumentError,
                       "Got \"three\", which is none of one, two.");
}

TEST_F(ManyAdapters, AMixedBatchEqualsSeparateRunsInEveryForm) {
  adapter_->add("dropping", {.rank = 2, .lora_dropout = 0.5});
  adapter_->add("dora", {.rank = 2, .use_dora = true});
  for (const auto* name : {"dropping", "dora"}) randomize(*adapter_, name);
  model_->eval();
  torch::nn::Linear first{nullptr};
  for (const auto& module : model_->modules(/*include_self=*/false)) {
    if (!first) first = torch::nn::Linear(std::dynamic_pointer_cast<torch::nn::LinearImpl>(module));
  }
  const std::vector<std::string> turn = {"one", "", "two", "dropping", "dora"};
  // A few rows, many rows, and rows of several inputs each: our kernels compute some of these.
  for (const auto& shape :
       std::vector<std::vector<int64_t>>{{5, 8}, {100, 8}, {5, 3, 8}, {10, 9, 8}}) {
    for (const bool with_gradients : {false, true}) {
      const at::AutoGradMode mode(with_gradients);
      const auto x = at::randn(shape);
      std::vector<std::string> names;
      for (int64_t i = 0; i < shape[0]; ++i) names.push_back(turn[static_cast<size_t>(i) % 5]);
      auto expected = at::empty({0});
      for (int64_t i = 0; i < shape[0]; ++i) {
        const auto& name = names[static_cast<size_t>(i)];
        const auto use = adapter_->use(name.empty() ? std::vector<std::string>()
                                                    : std::vector<std::string>{name});
        const auto row = first->forward(x.narrow(0, i, 1)).detach();
        expected = i == 0 ? row : at::cat({expected, row});
      }
      const auto use = adapter_->use_rows(names);
      const auto mixed = first->forward(x);
      EXPECT_LE(relative_error(mixed.detach(), expected), 1e-6) << x.sizes();
      EXPECT_EQ(mixed.requires_grad(), with_gradients);
    }
  }
}

TEST_F(ManyAdapters, RemovesAndRenames) {
  adapter_->rename("two", "zwei");
  adapter_->set_active({"zwei"});
  expect_output({{"zwei", 1}});
  adapter_->remove("zwei");
  EXPECT_TRUE(at::equal(output(), base_)) << "nothing is active";
  EXPECT_EQ(adapter_->names(), std::vector<std::string>{"one"});
  LOWRANK_EXPECT_ERROR(adapter_->set_active({"zwei"}), ArgumentError,
                       "an adapter of this name must exist. Got \"zwei\", which is none of one.");
  LOWRANK_EXPECT_ERROR(adapter_->add("one", {}), ArgumentError, "Got \"one\", which exists.");
  LOWRANK_EXPECT_ERROR(adapter_->add("a/b", {}), ArgumentError, "without dots and slashes");
  LOWRANK_EXPECT_ERROR(adapter_->set_scale("one", std::numeric_limits<double>::infinity()),
                       ArgumentError, "a scale must be finite. Got inf.");
}

TEST_F(ManyAdapters, DetachLeavesTheModelAsItWas) {
  const auto first = std::dynamic_pointer_cast<torch::nn::LinearImpl>(model_->children()[0]);
  const auto copy = std::dynamic_pointer_cast<torch::nn::LinearImpl>(first->clone());
  {
    const at::NoGradGuard no_grad;
    EXPECT_LE(relative_error(copy->forward(x_), first->forward(x_)), 1e-6) << "it is adapted too";
  }
  adapter_->detach();
  EXPECT_TRUE(at::equal(output(), base_));
  const at::NoGradGuard no_grad;
  EXPECT_TRUE(at::equal(copy->forward(x_), first->forward(x_))) << "and means its base from now on";
  for (const auto& parameter : model_->parameters()) EXPECT_TRUE(parameter.requires_grad());
}

}  // namespace
}  // namespace lowrank
