#include <lowrank/nn/lora_layers.h>

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>
#include <lowrank/error.h>
#include <torch/nn/modules/container/sequential.h>
#include <torch/serialize.h>

#include <sstream>

#include "support/expect_error.h"
#include "support/tolerances.h"

namespace lowrank::nn {
namespace {

const LoraOptions kLora = {.rank = 2, .alpha = 6};

auto make_linear(const LoraOptions& lora = kLora) {
  at::manual_seed(0);
  return Linear(torch::nn::LinearOptions(5, 4), lora);
}

/// Draws factors whose product is not zero.
void draw_factors(const torch::nn::Module& model) {
  const at::NoGradGuard no_grad;
  for (const auto& [name, factor] : lora_parameters(model)) factor.normal_(0, 0.5);
}

void expect_near(const at::Tensor& found, const at::Tensor& expected) {
  ASSERT_EQ(found.sizes(), expected.sizes());
  const double error = (found - expected).norm().item<double>();
  EXPECT_LE(error, tolerance(at::kFloat, 32).product * expected.norm().item<double>());
}

/// Compares the layer with LibTorch's own on the weight W + s·B·A: the output, and the gradients of
/// the factors, which follow from that weight's gradient by the chain rule.
template <class Plain, class Layer, class Options>
void expect_dense(const Options& options, const at::Tensor& x, bool transposed = false) {
  at::manual_seed(1);
  Layer layer(options, kLora);
  draw_factors(*layer);
  Plain plain(options);
  const auto a = layer->lora_a().detach().flatten(1);
  const auto b = layer->lora_b().detach().flatten(1);
  const auto delta = 3 * (transposed ? b.mm(a).t() : b.mm(a));
  {
    const at::NoGradGuard no_grad;
    auto plain_parameters = plain->named_parameters();
    for (const auto& parameter : layer->named_parameters()) {
      if (auto* own = plain_parameters.find(parameter.key())) own->copy_(parameter.value());
    }
    const DisableAdapter off(layer->adapter());
    plain->weight.copy_(layer->weight + delta.view(layer->weight.sizes()));
  }
  const auto y = layer->forward(x);
  const auto expected = plain->forward(x);
  expect_near(y, expected);
  const auto slope = at::linspace(-1, 1, y.numel()).view_as(y);
  (y * slope).sum().backward();
  (expected * slope).sum().backward();
  const auto grad = transposed ? plain->weight.grad().t() : plain->weight.grad().flatten(1);
  expect_near(layer->lora_a().grad().flatten(1), 3 * b.t().mm(grad));
  expect_near(layer->lora_b().grad().flatten(1), 3 * grad.mm(a.t()));
  EXPECT_FALSE(layer->weight.grad().defined());
}

TEST(LoraLayers, LinearIsDense) {
  expect_dense<torch::nn::Linear, Linear>(torch::nn::LinearOptions(5, 4), at::randn({3, 5}));
  expect_dense<torch::nn::Linear, Linear>(torch::nn::LinearOptions(5, 4).bias(false),
                                          at::randn({2, 3, 5}));
}

TEST(LoraLayers, ConvolutionsAreDense) {
  using torch::nn::Conv1dOptions, torch::nn::Conv2dOptions;
  expect_dense<torch::nn::Conv1d, Conv1d>(
      Conv1dOptions(3, 4, 3).padding(torch::kSame).padding_mode(torch::kCircular),
      at::randn({2, 3, 7}));
  expect_dense<torch::nn::Conv2d, Conv2d>(Conv2dOptions(3, 4, {3, 2}).stride(2).dilation({1, 2}),
                                          at::randn({2, 3, 8, 8}));
}

TEST(LoraLayers, EmbeddingIsDense) {
  expect_dense<torch::nn::Embedding, Embedding>(torch::nn::EmbeddingOptions(9, 4),
                                                at::tensor({1, 3, 3, 8}), /*transposed=*/true);
}

TEST(LoraLayers, ParametersHaveTheirNamesAndOnlyFactorsAreTrained) {
  auto layer = make_linear();
  std::vector<std::string> trained, frozen;
  for (const auto& parameter : layer->named_parameters()) {
    (parameter.value().requires_grad() ? trained : frozen).push_back(parameter.key());
  }
  EXPECT_EQ(trained, (std::vector<std::string>{"lora_A", "lora_B"}));
  EXPECT_EQ(frozen, (std::vector<std::string>{"weight", "bias"}));
  EXPECT_EQ(layer->lora_a().sizes(), at::IntArrayRef({2, 5}));
  EXPECT_EQ(layer->lora_b().sizes(), at::IntArrayRef({4, 2}));
}

TEST(LoraLayers, StartsAsItsBase) {
  auto layer = make_linear();
  const auto x = at::randn({3, 5});
  const DisableAdapter off(layer->adapter());
  const auto base = layer->forward(x);
  EXPECT_TRUE(at::equal(base, at::linear(x, layer->weight, layer->bias)));
  const auto on = layer->adapter().use("default");
  EXPECT_TRUE(at::allclose(layer->forward(x), base, 1e-5, 1e-6));
}

TEST(LoraLayers, ScalingIsByTheRootWithRslora) {
  auto layer = make_linear({.rank = 4, .alpha = 6, .use_rslora = true});
  EXPECT_DOUBLE_EQ(layer->adapter().layers().front().scaling, 3);
}

TEST(LoraLayers, BadOptionsAreRefused) {
  LOWRANK_EXPECT_ERROR(make_linear({.rank = 0}), ArgumentError, "rank must be at least 1");
  LOWRANK_EXPECT_ERROR(make_linear({.lora_dropout = 1}), ArgumentError, "lora_dropout");
  LOWRANK_EXPECT_ERROR(Conv1d(torch::nn::Conv1dOptions(4, 4, 3).groups(2), LoraOptions{.rank = 3}),
                       ArgumentError, "the rank must be a multiple of a convolution's groups");
}

TEST(LoraLayers, DropoutFollowsTrainAndEval) {
  auto layer = make_linear({.rank = 2, .alpha = 6, .lora_dropout = 0.5});
  draw_factors(*layer);
  const auto x = at::randn({64, 5});
  EXPECT_FALSE(at::equal(layer->forward(x), layer->forward(x)));
  layer->eval();
  EXPECT_TRUE(at::equal(layer->forward(x), layer->forward(x)));
}

/// Returns the archive that torch::save writes of the layer.
std::string saved(const Linear& layer) {
  std::ostringstream out;
  torch::save(layer, out);
  return out.str();
}

TEST(LoraLayers, LoadedIsSame) {
  auto layer = make_linear();
  draw_factors(*layer);
  auto other = make_linear();
  std::istringstream in(saved(layer));
  torch::load(other, in);
  const auto x = at::randn({3, 5});
  EXPECT_TRUE(at::equal(other->forward(x), layer->forward(x)));
  other->forward(x).sum().backward();
  EXPECT_TRUE(other->lora_b().grad().defined());
}

TEST(LoraLayers, ConvertedIsSame) {
  auto layer = make_linear();
  draw_factors(*layer);
  const auto x = at::randn({3, 5});
  const auto before = layer->forward(x);
  layer->to(at::kDouble);
  EXPECT_EQ(layer->lora_a().scalar_type(), at::kDouble);
  expect_near(layer->forward(x.to(at::kDouble)).to(at::kFloat), before);
}

struct PairImpl : torch::nn::Cloneable<PairImpl> {
  PairImpl() { PairImpl::reset(); }
  void reset() override {
    first = register_module("first", Linear(torch::nn::LinearOptions(5, 4),
                                            LoraOptions{.rank = 2, .lora_dropout = 0.5}));
    second = register_module("second", torch::nn::Linear(4, 3));
  }
  at::Tensor forward(const at::Tensor& x) { return second(first(x)); }
  Linear first = nullptr;
  torch::nn::Linear second = nullptr;
};

TEST(LoraLayers, CloneOfAModelIsItsOwn) {
  PairImpl model;
  draw_factors(model);
  model.eval();
  const auto x = at::randn({64, 5});
  const auto copy = std::dynamic_pointer_cast<PairImpl>(model.clone());
  const auto y = copy->forward(x);
  EXPECT_TRUE(at::equal(y, model.forward(x)));

  draw_factors(model);
  EXPECT_TRUE(at::equal(copy->forward(x), y));
  EXPECT_FALSE(at::equal(model.forward(x), y));
  EXPECT_TRUE(copy->first->lora_a().is_same(copy->named_parameters()["first.lora_A"]));
  copy->train();
  EXPECT_FALSE(at::equal(copy->forward(x), copy->forward(x)));
}

TEST(LoraLayers, MergedIsNeitherSavedNorCloned) {
  auto layer = make_linear();
  draw_factors(*layer);
  const auto x = at::randn({3, 5});
  const auto y = layer->forward(x);
  layer->adapter().merge();
  expect_near(layer->forward(x), y);
  LOWRANK_EXPECT_ERROR(layer->clone(), TensorError, "[clone] the adapter must not be merged");
  LOWRANK_EXPECT_ERROR(saved(layer), TensorError, "[save] the adapter must not be merged");
  layer->adapter().unmerge();
  EXPECT_TRUE(at::equal(layer->forward(x), y));
}

TEST(LoraLayers, OnlyFactorsOfAModelAreTrained) {
  torch::nn::Sequential model(make_linear(), torch::nn::Linear(4, 3));
  mark_only_lora_as_trainable(*model);
  std::vector<std::string> trained;
  for (const auto& parameter : model->named_parameters()) {
    if (parameter.value().requires_grad()) trained.push_back(parameter.key());
  }
  EXPECT_EQ(trained, (std::vector<std::string>{"0.lora_A", "0.lora_B"}));
  model->forward(at::randn({2, 5})).sum().backward();
  for (const auto& [name, factor] : lora_parameters(*model)) {
    EXPECT_TRUE(factor.grad().defined()) << name;
  }
}

TEST(LoraLayers, AnotherAdapterOfTheModelIsRefused) {
  torch::nn::Sequential model(make_linear(), torch::nn::Linear(4, 3));
  LOWRANK_EXPECT_ERROR(attach(*model, {.rank = 2, .target_modules = {"0"}}), TensorError,
                       "which is adapted already");
}

}  // namespace
}  // namespace lowrank::nn
