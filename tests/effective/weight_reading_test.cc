#include "effective/weight_reading.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>
#include <lowrank/adapter/adapter.h>
#include <lowrank/optim/accelerate.h>
#include <torch/nn/modules/embedding.h>
#include <torch/nn/modules/linear.h>

#include <optional>

#include "support/dense_reference.h"

namespace lowrank::effective {
namespace {

/// Two square layers, where only the strides distinguish W from Wᵀ, and an embedding. All are
/// adapted.
struct NetImpl : torch::nn::Module {
  torch::nn::Linear first{nullptr}, second{nullptr};
  torch::nn::Embedding table{nullptr};

  NetImpl() {
    first = register_module("first", torch::nn::Linear(6, 6));
    second = register_module("second", torch::nn::Linear(6, 6));
    table = register_module("table", torch::nn::Embedding(5, 6));
  }
};
TORCH_MODULE(Net);

class WeightReadings : public testing::Test {
 protected:
  void SetUp() override { randomize(adapter_); }

  Computation computation(const at::Tensor& weight, Role role) const {
    return read_weight(weight, role).computation;
  }

  Net net_;
  Adapter adapter_ =
      attach(*net_, {.rank = 2, .alpha = 2, .target_modules = {"first", "second", "table"}});
};

TEST_F(WeightReadings, AreOfWhatIsStoredWhereNothingIsAdapted) {
  const auto tensor = at::ones({6, 6});
  for (const auto role : {Role::kMatrix, Role::kTranspose, Role::kEmbedding, Role::kValue}) {
    EXPECT_EQ(computation(tensor, role), Computation::kStored);
  }
}

TEST_F(WeightReadings, AreFactoredForExactlyTheWeightAndItsTranspose) {
  const auto weight = net_->first->weight;
  EXPECT_EQ(computation(weight, Role::kMatrix), Computation::kFactored);
  EXPECT_EQ(computation(weight.t(), Role::kTranspose), Computation::kFactored);
  EXPECT_EQ(computation(weight, Role::kTranspose), Computation::kDense);  // x·W
  EXPECT_EQ(computation(weight.t(), Role::kMatrix), Computation::kDense);
  EXPECT_EQ(computation(weight.slice(0, 0, 3), Role::kMatrix), Computation::kDense);
  EXPECT_EQ(computation(weight, Role::kValue), Computation::kDense);
  EXPECT_EQ(computation(net_->table->weight, Role::kEmbedding), Computation::kFactored);
}

/// Only aten::embedding sees the adapter of an embedding, and it does not see that of a linear
/// layer.
TEST_F(WeightReadings, KeepEmbeddingsAndProductsApart) {
  EXPECT_EQ(computation(net_->table->weight, Role::kMatrix), Computation::kStored);
  EXPECT_EQ(computation(net_->first->weight, Role::kEmbedding), Computation::kStored);
}

TEST_F(WeightReadings, AreOfWhatIsStoredWhileTheAdapterIsOff) {
  const DisableAdapter off(adapter_);
  const auto weight = net_->first->weight;
  EXPECT_EQ(computation(weight, Role::kMatrix), Computation::kStored);
  EXPECT_EQ(effective_value(weight).data_ptr(), weight.data_ptr());
}

TEST_F(WeightReadings, TellWhereOurKernelsTakeOver) {
  const auto acceleration = accelerate(*net_);
  const auto weight = net_->first->weight;
  EXPECT_NE(read_weight(weight, Role::kMatrix).accelerated, nullptr);
  EXPECT_EQ(computation(weight, Role::kMatrix), Computation::kFactored);
  const DisableAdapter off(adapter_);
  EXPECT_EQ(computation(weight, Role::kMatrix), Computation::kAccelerated);
  EXPECT_EQ(computation(weight.t(), Role::kTranspose), Computation::kAccelerated);
  EXPECT_EQ(computation(weight, Role::kTranspose), Computation::kStored);
}

/// When one adapted weight is multiplied by another, both mean their effective weights, even if the
/// second one is accelerated.
TEST_F(WeightReadings, HoldForAnInputThatIsAnAdaptedWeightItself) {
  const at::NoGradGuard no_grad;
  const auto layers = adapter_.layers();
  at::Tensor first, second;
  {
    const DisableAdapter off(adapter_);
    first = net_->first->weight.to(at::kDouble).clone() + dense_delta(layers[0], false);
    second = net_->second->weight.to(at::kDouble).clone() + dense_delta(layers[1], false);
  }
  for (const bool accelerated : {false, true}) {
    std::optional<Acceleration> acceleration;
    if (accelerated) acceleration = accelerate(*net_);
    const auto product = at::linear(net_->first->weight, net_->second->weight);
    EXPECT_LE(relative_error(product, first.mm(second.t())), 1e-6) << accelerated;
  }
}

}  // namespace
}  // namespace lowrank::effective
