#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>
#include <lowrank/adapter/adapter.h>
#include <torch/nn/modules/linear.h>

#include <functional>

#include "support/tolerances.h"

// A marked weight means W + s·B·A to every operator that reads it. Outputs and the factors'
// gradients are compared with those of the dense weight.
namespace lowrank {
namespace {

struct OperatorUse {
  const char* name;
  std::function<at::Tensor(const at::Tensor& weight, const at::Tensor& x)> read;
};

class AnyOperator : public testing::TestWithParam<OperatorUse> {};

TEST_P(AnyOperator, ReadsTheEffectiveWeight) {
  at::manual_seed(1);
  const auto& read = GetParam().read;
  torch::nn::Linear layer(8, 6);
  const auto base = layer->weight.detach().clone();
  const auto x = at::randn({5, 8});
  const auto plain = read(layer->weight, x).detach();

  auto adapter = attach(*layer, {.rank = 2, .alpha = 3});
  const auto info = adapter.layers().at(0);
  {
    const at::NoGradGuard no_grad;
    info.b.normal_(0, 0.3);
  }
  const auto dense = (base + 1.5 * info.b.detach().mm(info.a.detach())).requires_grad_();
  const auto expected = read(dense, x);
  expected.pow(2).sum().backward();
  const auto& dw = dense.grad();

  for (int repeat = 0; repeat < 2; ++repeat) {
    info.a.mutable_grad().reset();
    info.b.mutable_grad().reset();
    const auto found = read(layer->weight, x);
    found.pow(2).sum().backward();
    const auto near = [](const at::Tensor& one, const at::Tensor& other) {
      return (one - other).norm().item<double>() <=
             4 * tolerance(at::kFloat, 64).product * other.norm().item<double>();
    };
    EXPECT_TRUE(near(found, expected));
    ASSERT_TRUE(info.a.grad().defined() && info.b.grad().defined());
    EXPECT_TRUE(near(info.a.grad(), 1.5 * info.b.detach().t().mm(dw)));
    EXPECT_TRUE(near(info.b.grad(), 1.5 * dw.mm(info.a.detach().t())));
  }
  const DisableAdapter off(adapter);
  EXPECT_TRUE(at::equal(read(layer->weight, x).detach(), plain));
}

INSTANTIATE_TEST_SUITE_P(
    Operators, AnyOperator,
    testing::Values(
        OperatorUse{"linear", [](const auto& w, const auto& x) { return at::linear(x, w); }},
        OperatorUse{"mm_of_transpose", [](const auto& w, const auto& x) { return x.mm(w.t()); }},
        OperatorUse{"mm_from_the_left", [](const auto& w, const auto& x) { return w.mm(x.t()); }},
        OperatorUse{"addmm_with_beta",
                    [](const auto& w, const auto& x) {
                      return at::addmm(at::ones({6}), x, w.t(), 0.5, 2.0);
                    }},
        OperatorUse{"einsum",
                    [](const auto& w, const auto& x) {
                      return at::einsum("bi,oi->bo", {x, w});
                    }},
        OperatorUse{"rows",
                    [](const auto& w, const auto& x) { return x.mm(w.slice(0, 1, 4).t()); }},
        OperatorUse{
            "columns",
            [](const auto& w, const auto& x) { return x.slice(1, 2, 7).mm(w.slice(1, 2, 7).t()); }},
        OperatorUse{"every_second_row",
                    [](const auto& w, const auto& x) { return x.mm(w.slice(0, 0, 6, 2).t()); }},
        OperatorUse{"cat",
                    [](const auto& w, const auto& x) {
                      return x.mm(at::cat({w, w}).t());
                    }},
        OperatorUse{"index_select",
                    [](const auto& w, const auto& x) {
                      return w.index_select(0, at::tensor({1, 3})).mm(x.t());
                    }},
        OperatorUse{"index",
                    [](const auto& w, const auto& x) {
                      return w.index({at::tensor({1, 3}, at::kLong)}).mm(x.t());
                    }},
        OperatorUse{"tensordot",
                    [](const auto& w, const auto& x) { return at::tensordot(x, w, {1}, {1}); }},
        OperatorUse{"reshape_view",
                    [](const auto& w, const auto& x) {
                      return x.mm(w.reshape({3, 16}).reshape({6, 8}).t());
                    }},
        OperatorUse{"reshape_copy",
                    [](const auto& w, const auto& x) { return w.t().reshape({48}).sum() * x; }},
        OperatorUse{"contiguous_transpose",
                    [](const auto& w, const auto& x) { return x.mm(w.t().contiguous()); }},
        OperatorUse{
            "clone_of_a_slice",
            [](const auto& w, const auto& x) { return x.mm(w.slice(0, 1, 3).clone().t()); }},
        OperatorUse{"cast",
                    [](const auto& w, const auto& x) {
                      return x.to(at::kDouble).mm(w.to(at::kDouble).t()).to(at::kFloat);
                    }},
        OperatorUse{
            "weight_norm",
            [](const auto& w, const auto& x) { return at::linear(x, w / w.norm(2, {1}, true)); }},
        OperatorUse{"bmm",
                    [](const auto& w, const auto& x) {
                      return at::bmm(x.unsqueeze(0).expand({3, 5, 8}),
                                     w.t().unsqueeze(0).expand({3, 8, 6}));
                    }},
        OperatorUse{"conv1d",
                    [](const auto& w, const auto& x) {
                      return at::conv1d(x.unsqueeze(2), w.unsqueeze(2));
                    }},
        OperatorUse{"sum", [](const auto& w, const auto& x) { return w.sum() * x; }},
        OperatorUse{
            "where",
            [](const auto& w,
               const auto&
                   x) { return x.mm(at::where(at::ones({6, 8}).gt(0), w, at::zeros({6, 8})).t()); }}),
    [](const auto& test) { return test.param.name; });

TEST(EffectiveWeight, ShapesCostNothing) {
  torch::nn::Linear layer(8, 6);
  auto adapter = attach(*layer, {.rank = 2});
  EXPECT_EQ(at::zeros_like(layer->weight).sum().item<float>(), 0);
  EXPECT_EQ(layer->weight.numel(), 48);
  EXPECT_EQ(adapter.layers().at(0).path, LayerPath::kUnreached) << "a shape is not a read";
}

TEST(EffectiveWeight, WritesGoToTheBase) {
  at::manual_seed(2);
  torch::nn::Linear layer(8, 6);
  auto adapter = attach(*layer, {.rank = 2});
  const at::NoGradGuard no_grad;
  adapter.layers().at(0).b.normal_();
  const auto x = at::randn({5, 8});
  const auto before = layer->forward(x);
  layer->weight.zero_();
  const auto info = adapter.layers().at(0);
  const auto expected = at::linear(x, info.scaling * info.b.mm(info.a), layer->bias);
  EXPECT_LT((layer->forward(x) - expected).norm().item<double>(), 1e-4);
  EXPECT_GT((layer->forward(x) - before).norm().item<double>(), 1e-2);
}

}  // namespace
}  // namespace lowrank
