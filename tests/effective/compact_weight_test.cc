#include "effective/compact_weight.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <lowrank/adapter/adapter.h>
#include <lowrank/error.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/nn/modules/conv.h>
#include <torch/nn/modules/embedding.h>
#include <torch/nn/modules/linear.h>

#include <cmath>
#include <vector>

#include "effective/mark.h"
#include "support/expect_error.h"
#include "support/temporary_folder.h"

namespace lowrank {
namespace {

using effective::compact_shell;
using kernels::CompactFormat;

/// Two equal nets: one of float32, one whose weights stay in bfloat16.
struct NetImpl : torch::nn::Module {
  torch::nn::Embedding table{nullptr};
  torch::nn::Linear one{nullptr}, two{nullptr}, head{nullptr};

  NetImpl() {
    table = register_module("table", torch::nn::Embedding(40, 32));
    one = register_module("one", torch::nn::Linear(32, 32));
    two = register_module("two", torch::nn::Linear(32, 48));
    head = register_module("head", torch::nn::Linear(torch::nn::LinearOptions(48, 5).bias(false)));
  }
  at::Tensor forward(const at::Tensor& indices) {
    return head(at::relu(two(at::relu(one(table(indices))))));
  }
};
TORCH_MODULE(Net);

class CompactWeights : public testing::Test {
 protected:
  CompactWeights() {
    at::manual_seed(0);
    const at::NoGradGuard no_grad;
    for (const auto& parameter : dense_->named_parameters()) {
      const auto rounded = parameter.value().to(at::kBFloat16);
      auto& own = compact_->named_parameters()[parameter.key()];
      own.requires_grad_(false);
      parameter.value().set_data(rounded.to(at::kFloat));
      if (own.dim() < 2) {
        own.set_data(rounded.to(at::kFloat));
      } else {
        own.set_data(compact_shell(rounded, CompactFormat::kBfloat16, rounded.sizes()));
      }
    }
  }

  static void expect_close(const at::Tensor& found, const at::Tensor& expected) {
    EXPECT_LE((found - expected).norm().item<double>(), 1e-6 * expected.norm().item<double>());
  }

  Net dense_, compact_;
  at::Tensor indices_ = at::randint(0, 40, {3, 7}, at::kLong);
};

TEST_F(CompactWeights, MeanTheirNumbers) {
  const auto w = compact_->one->weight, own = dense_->one->weight.detach();
  EXPECT_TRUE(std::isnan(*static_cast<const float*>(w.storage().data_ptr().get())));
  EXPECT_EQ(w.scalar_type(), at::kFloat);
  EXPECT_EQ(w.sizes(), own.sizes());
  EXPECT_TRUE(at::equal(compact_->table(indices_), dense_->table(indices_)));
  expect_close(compact_->forward(indices_), dense_->forward(indices_));
  const auto x = at::randn({4, 32});
  EXPECT_TRUE(at::equal(w + 0, own));
  EXPECT_TRUE(at::equal(w.clone(), own));
  EXPECT_TRUE(at::equal(w.to(at::kDouble), own.to(at::kDouble)));
  EXPECT_TRUE(at::equal(w.slice(0, 3, 9), own.slice(0, 3, 9)));
  EXPECT_TRUE(at::equal(w.t().contiguous(), own.t()));
  EXPECT_TRUE(at::equal(at::mm(x, w.slice(1, 4, 8)), at::mm(x, own.slice(1, 4, 8))));
  expect_close(at::mm(x, w), at::mm(x, own));  // a square matrix, not transposed
  expect_close(at::einsum("bi,oi->bo", std::vector<at::Tensor>{x, w}), at::mm(x, own.t()));
  expect_close(w.norm(), own.norm());
  EXPECT_TRUE(w.to(at::kFloat).is_alias_of(w));  // nothing to convert, so nothing is widened
  EXPECT_THROW(compact_->table(at::full({1}, 40, at::kLong)), c10::Error);
}

TEST_F(CompactWeights, CannotBeWrittenTo) {
  const at::NoGradGuard no_grad;
  LOWRANK_EXPECT_ERROR(compact_->one->weight.add_(1), TensorError,
                       "a weight in a compact format must not be written to");
  LOWRANK_EXPECT_ERROR(compact_->one->weight.slice(0, 1, 2).zero_(), TensorError, "aten::zero_");
  const std::vector<at::Tensor> several = {at::ones({2}), compact_->one->weight};
  LOWRANK_EXPECT_ERROR(at::_foreach_add_(several, 1), TensorError, "aten::_foreach_add_");
}

TEST_F(CompactWeights, TrainAsDenseOnesDo) {
  struct Kind {
    const char* name;
    LoraConfig config;
  };
  const ModuleSelector layers = {"one", "two", "table", "head"};
  const Kind kinds[] = {
      {"LoRA", {.rank = 3, .alpha = 6, .target_modules = layers}},
      {"DoRA", {.rank = 3, .alpha = 6, .target_modules = layers, .use_dora = true}},
      {"PiSSA", {.rank = 3, .alpha = 3, .target_modules = {"one"}, .init = LoraInit::kPissa}}};
  for (const auto& [name, config] : kinds) {
    SCOPED_TRACE(name);
    at::manual_seed(1);
    auto one = attach(*dense_, config);
    at::manual_seed(1);
    auto other = attach(*compact_, config);
    auto of_one = one.parameters(), of_other = other.parameters();
    ASSERT_EQ(of_one.size(), of_other.size());
    {
      const at::NoGradGuard no_grad;
      for (size_t i = 0; i < of_one.size(); ++i) {
        of_one[i].add_(at::randn_like(of_one[i]), 0.1);
        of_other[i].copy_(of_one[i]);
      }
    }
    expect_close(compact_->forward(indices_), dense_->forward(indices_));
    dense_->forward(indices_).square().sum().backward();
    compact_->forward(indices_).square().sum().backward();
    for (size_t i = 0; i < of_one.size(); ++i) expect_close(of_other[i].grad(), of_one[i].grad());
    EXPECT_EQ(base_fingerprint(*dense_), base_fingerprint(*compact_));
    const auto layer = other.layers().front();
    const auto same = one.layers().front();
    EXPECT_TRUE(at::equal(layer.weight + 0, same.weight));  // W, while the adapter is on
    {
      const DisableAdapter off_one(one), off_other(other);
      expect_close(compact_->forward(indices_), dense_->forward(indices_));
    }
    LOWRANK_EXPECT_ERROR(other.merge(), TensorError, "must be float32");
    one.detach();
    other.detach();
    expect_close(compact_->forward(indices_), dense_->forward(indices_));
  }
}

TEST_F(CompactWeights, TakeGradientsOfInputsTwice) {
  const auto x = at::randn({4, 32}).requires_grad_();
  const auto gradient = [&](Net& net) {
    const auto y = net->one(x).pow(3).sum();
    return torch::autograd::grad({y}, {x}, {}, /*retain_graph=*/true, /*create_graph=*/true)[0];
  };
  const auto of_compact = gradient(compact_), of_dense = gradient(dense_);
  expect_close(of_compact, of_dense);
  expect_close(torch::autograd::grad({of_compact.sum()}, {x})[0],
               torch::autograd::grad({of_dense.sum()}, {x})[0]);
}

TEST_F(CompactWeights, AdaptersSurviveTheirFiles) {
  const TemporaryFolder folder;
  auto other = attach(*compact_, {.rank = 2, .target_modules = {"one", "head"}});
  {
    const at::NoGradGuard no_grad;
    for (auto& parameter : other.parameters()) parameter.normal_();
  }
  other.save(folder / "adapter");
  const auto loaded = load_adapter(*dense_, folder / "adapter");
  EXPECT_TRUE(loaded.report.base_matches());
  expect_close(compact_->forward(indices_), dense_->forward(indices_));
}

/// One weight of an embedding and of a head, each of which has its own adapter.
TEST_F(CompactWeights, MayBeTied) {
  torch::nn::Embedding table(40, 32);
  torch::nn::Linear head(torch::nn::LinearOptions(32, 40).bias(false));
  table->weight.requires_grad_(false);
  head->weight.requires_grad_(false);
  const auto rounded = dense_->table->weight.detach().to(at::kBFloat16);
  const auto shell = compact_shell(rounded, CompactFormat::kBfloat16, rounded.sizes());
  table->weight.set_data(shell);
  head->weight.set_data(shell);
  const auto own = rounded.to(at::kFloat);
  expect_close(head(table(indices_)), at::matmul(at::embedding(own, indices_), own.t()));
}

TEST_F(CompactWeights, ConvolutionsReadThemDense) {
  torch::nn::Conv1d conv(torch::nn::Conv1dOptions(4, 6, 3));
  const auto rounded = conv->weight.detach().to(at::kHalf);
  const auto x = at::randn({2, 4, 9});
  const auto expected = at::conv1d(x, rounded.to(at::kFloat), conv->bias);
  conv->weight.requires_grad_(false);
  conv->weight.set_data(compact_shell(rounded, CompactFormat::kFloat16, rounded.sizes()));
  expect_close(conv(x), expected);
}

}  // namespace
}  // namespace lowrank
