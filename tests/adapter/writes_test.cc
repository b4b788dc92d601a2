// Covers writes into adapted weights: src/effective/ops/fallback.cc and src/adapter/merge.cc.

#include <gtest/gtest.h>
#include <lowrank/error.h>
#include <torch/nn/modules/linear.h>
#include <torch/optim/sgd.h>

#include <functional>

#include "support/dense_reference.h"
#include "support/expect_error.h"

// W changes while adapters are attached; W + s·B·A must follow.
namespace lowrank {
namespace {

class Writes : public testing::Test {
 protected:
  Writes() {
    at::manual_seed(1);
    x_ = at::randn({5, 8});
    base_ = layer_->weight.detach().clone();
    adapter_ = std::make_unique<Adapter>(attach(*layer_, {.rank = 2, .alpha = 3}));
    randomize(*adapter_);
    delta_ = dense_delta(adapter_->layers()[0], false).to(at::kFloat);
  }

  at::Tensor output() {
    const at::NoGradGuard no_grad;
    return layer_->forward(x_);
  }
  at::Tensor expected(const at::Tensor& w) const {
    return at::linear(x_, w + delta_, layer_->bias.detach());
  }

  torch::nn::Linear layer_{8, 6};
  at::Tensor x_, base_, delta_;
  std::unique_ptr<Adapter> adapter_;
};

TEST_F(Writes, AreFollowedByTheEffectiveWeight) {
  const at::NoGradGuard no_grad;
  const auto other = at::randn({6, 8});
  using Write = std::function<void(const at::Tensor&)>;
  const std::vector<std::pair<const char*, Write>> writes = {
      {"mul_", [](const at::Tensor& w) { w.mul_(2); }},
      {"add_", [&](const at::Tensor& w) { w.add_(other); }},
      {"copy_", [&](const at::Tensor& w) { w.copy_(other); }},
      {"a row", [](const at::Tensor& w) { w[1].fill_(0.5); }},
      {"a view", [](const at::Tensor& w) { w.t().slice(0, 2, 5).mul_(3); }},
      {"index_put_",
       [](const at::Tensor& w) {
         w.index_put_({at::tensor({0, 2}, at::kLong)}, at::ones({2, 8}));
       }},
      {"set_", [&](const at::Tensor& w) { w.set_(other.clone()); }},
      {"set_ to a part of a storage",
       [&](const at::Tensor& w) {
         w.set_(at::randn({12, 8}).slice(0, 6));
       }},
      {"set_data of a copy", [](const at::Tensor& w) { w.set_data(w.clone().mul_(2)); }},
  };
  for (const auto& [name, write] : writes) {
    write(layer_->weight);
    const auto found = output();
    adapter_->disable();
    const auto w = at::Tensor(layer_->weight + 0);
    EXPECT_FALSE(at::equal(w, base_)) << name << " changes W";
    adapter_->enable();
    EXPECT_LE(relative_error(found, expected(w)), 1e-6) << name;
    base_ = w;
  }
}

TEST_F(Writes, OfAnOptimizerAreThoseOfADenseModel) {
  auto w = base_.clone().requires_grad_();
  auto weight = layer_->weight.set_requires_grad(true);
  const torch::optim::SGDOptions options = torch::optim::SGDOptions(0.1).momentum(0.9);
  torch::optim::SGD optimizer({weight}, options), dense({w}, options);
  for (int step = 0; step < 3; ++step) {
    loss_of(layer_->forward(x_)).backward();
    loss_of(expected(w)).backward();
    EXPECT_LE(relative_error(weight.grad(), w.grad()), 1e-6);
    optimizer.step();
    dense.step();
    optimizer.zero_grad();
    dense.zero_grad();
    EXPECT_LE(relative_error(output(), expected(w.detach())), 1e-6);
  }
}

/// The library cannot notice set_data with a tensor that is not adapted.
TEST_F(Writes, ThatExchangeTheTensorAreReported) {
  output();
  EXPECT_TRUE(adapter_->unreached_layers().empty());
  layer_->weight.set_data(at::ones({6, 8}));
  EXPECT_EQ(adapter_->unreached_layers().size(), 1U);
  adapter_->enable();
  EXPECT_TRUE(adapter_->unreached_layers().empty());
  EXPECT_LE(relative_error(output(), expected(at::ones({6, 8}))), 1e-6);
  adapter_->detach();
  EXPECT_LE(relative_error(output(), at::linear(x_, at::ones({6, 8}), layer_->bias)), 1e-6);
}

TEST_F(Writes, BetweenMergeAndUnmergeAreNotLost) {
  const at::NoGradGuard no_grad;
  adapter_->merge();
  layer_->weight.mul_(2);
  const char* message =
      "a weight must not be written to between merge and unmerge. Got \"weight\", which was. "
      "unmerge() with discard_writes goes back to what it was before the merge";
  LOWRANK_EXPECT_ERROR(adapter_->unmerge(), TensorError, message);
  EXPECT_TRUE(adapter_->merged());
  adapter_->add("two", {.rank = 1});
  LOWRANK_EXPECT_ERROR(adapter_->merge({"two"}), TensorError, message);
}

TEST_F(Writes, BetweenMergeAndUnmergeStayWithoutCopies) {
  const at::NoGradGuard no_grad;
  adapter_->merge({}, {.keep_copies = false});
  layer_->weight.mul_(2);
  adapter_->unmerge();
  adapter_->disable();
  EXPECT_LE(relative_error(at::Tensor(layer_->weight + 0), 2 * base_ + delta_), 1e-6);
}

TEST_F(Writes, ACastBetweenMergeAndUnmergeKeepsTheCopy) {
  const at::NoGradGuard no_grad;
  adapter_->merge();
  layer_->to(at::kBFloat16);
  adapter_->unmerge();
  adapter_->disable();
  EXPECT_TRUE(at::equal(at::Tensor(layer_->weight + 0), base_.to(at::kBFloat16)));
}

}  // namespace
}  // namespace lowrank
