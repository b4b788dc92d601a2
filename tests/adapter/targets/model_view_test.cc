#include "adapter/targets/model_view.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/jit/api/module.h>
#include <torch/csrc/jit/serialization/import.h>
#include <torch/nn/module.h>
#include <torch/nn/modules/batchnorm.h>
#include <torch/nn/modules/container/modulelist.h>
#include <torch/nn/modules/conv.h>
#include <torch/nn/modules/embedding.h>
#include <torch/nn/modules/linear.h>
#include <torch/nn/modules/rnn.h>

#include <map>
#include <memory>
#include <string>

namespace lowrank {
namespace {

using namespace torch::nn;

/// Like the Conv1D of transformers: weight (in, out).
struct Conv1DImpl : Module {
  at::Tensor weight;
  Conv1DImpl() { weight = register_parameter("weight", at::randn({4, 6})); }
};

struct Net : Module {
  Embedding embedding = register_module("embedding", Embedding(11, 8));
  Conv2d conv = register_module("conv", Conv2d(Conv2dOptions(8, 6, 3).groups(2)));
  ConvTranspose1d up = register_module("up", ConvTranspose1d(4, 4, 3));
  BatchNorm2d norm = register_module("norm", BatchNorm2d(6));
  LSTM lstm = register_module("lstm", LSTM(6, 5));
  ModuleList layers = register_module("layers", ModuleList(Linear(5, 5)));
  std::shared_ptr<Conv1DImpl> mix = register_module("mix", std::make_shared<Conv1DImpl>());
  at::Tensor scale = register_parameter("scale", at::ones({1}));
};

std::map<std::string, ModelLayer> by_name(std::vector<ModelLayer> layers) {
  std::map<std::string, ModelLayer> named;
  for (auto& layer : layers) named.emplace(layer.name, std::move(layer));
  return named;
}

TEST(ModelView, SeesEveryKindOfLayer) {
  Net net;  // not owned by a shared_ptr
  const auto layers = by_name(layers_of(net));
  EXPECT_EQ(layers.at("").type, "Net");
  EXPECT_TRUE(layers.at("").parameter("scale").is_same(net.scale));
  EXPECT_EQ(layers.at("embedding").kind, LayerKind::kEmbedding);
  EXPECT_EQ(layers.at("conv").kind, LayerKind::kConv);
  EXPECT_EQ(layers.at("conv").type, "Conv2d");
  EXPECT_EQ(layers.at("conv").groups, 2);
  EXPECT_TRUE(layers.at("conv").parameter("bias").is_same(net.conv->bias));
  EXPECT_EQ(layers.at("up").kind, LayerKind::kOther);
  EXPECT_EQ(layers.at("norm").buffers.size(), 3U);
  EXPECT_EQ(layers.at("lstm").kind, LayerKind::kOther);
  EXPECT_EQ(layers.at("lstm").parameter("weight_hh_l0").sizes(), at::IntArrayRef({20, 5}));
  EXPECT_EQ(layers.at("layers").parameters.size(), 0U);
  EXPECT_EQ(layers.at("layers.0").kind, LayerKind::kLinear);
  EXPECT_EQ(layers.at("layers.0").type, "Linear");
  EXPECT_EQ(layers.at("mix").kind, LayerKind::kConv1D);
  EXPECT_FALSE(layers.at("mix").parameter("bias").defined());
}

TEST(ModelView, GivesTheTensorThatAForwardReads) {
  Linear one(3, 3);
  Linear other(3, 3);
  one->weight = other->weight;  // the registered parameter stays the same
  const auto layers = layers_of(*one);
  EXPECT_TRUE(layers.at(0).parameter("weight").is_same(other->weight));
}

TEST(ModelView, ListsASharedModuleOnce) {
  struct Twice : Module {
    Twice() { register_module("second", register_module("first", Linear(2, 2))); }
  } twice;
  const auto layers = layers_of(twice);
  ASSERT_EQ(layers.size(), 2U);
  EXPECT_EQ(layers[1].name, "first");
}

TEST(ModelView, FollowsTrainingUntilTheModelIsGone) {
  std::vector<ModelLayer> layers;
  {
    Net net;
    layers = layers_of(net);
    EXPECT_TRUE(layers[0].is_training());
    net.eval();
    for (const auto& layer : layers) EXPECT_FALSE(layer.is_training()) << layer.name;
    net.train();
    for (const auto& layer : layers) EXPECT_TRUE(layer.is_training()) << layer.name;
  }
  for (const auto& layer : layers) EXPECT_FALSE(layer.is_training()) << layer.name;
}

class ScriptView : public testing::TestWithParam<const char*> {};

TEST_P(ScriptView, SeesEveryKindOfLayer) {
  const auto model = torch::jit::load(std::string(LOWRANK_FIXTURES "/") + GetParam());
  const auto layers = by_name(layers_of(model));
  EXPECT_EQ(layers.at("").type, "Tagger");
  EXPECT_EQ(layers.at("embedding").kind, LayerKind::kEmbedding);
  EXPECT_EQ(layers.at("embedding").parameter("weight").sizes(), at::IntArrayRef({11, 8}));
  EXPECT_EQ(layers.at("conv").kind, LayerKind::kConv);
  EXPECT_EQ(layers.at("conv").type, "Conv1d");
  EXPECT_EQ(layers.at("conv").groups, 2);
  EXPECT_EQ(layers.at("norm").buffers.size(), 3U);
  EXPECT_EQ(layers.at("lstm").kind, LayerKind::kOther);
  EXPECT_EQ(layers.at("layers.1").kind, LayerKind::kLinear);
  EXPECT_FALSE(layers.at("layers.1").parameter("bias").defined());
  EXPECT_EQ(layers.at("head").type, "Linear");
}

TEST_P(ScriptView, FollowsTrainingUntilTheModelIsGone) {
  auto model = std::make_unique<torch::jit::Module>(
      torch::jit::load(std::string(LOWRANK_FIXTURES "/") + GetParam()));
  const auto layer = by_name(layers_of(*model)).at("layers.0");
  const auto& is_training = layer.is_training;
  model->train();
  EXPECT_TRUE(is_training());
  model->eval();
  EXPECT_FALSE(is_training());
  model->train();
  model.reset();
  EXPECT_FALSE(is_training());
}

INSTANTIATE_TEST_SUITE_P(Files, ScriptView, testing::Values("scripted.pt", "traced.pt"),
                         [](const auto& test) {
                           return std::string(test.param) == "traced.pt" ? "traced" : "scripted";
                         });

TEST(ScriptedTied, KeepsTransformersConv1DAndTheTie) {
  const auto model = torch::jit::load(LOWRANK_FIXTURES "/scripted_tied.pt");
  const auto layers = by_name(layers_of(model));
  EXPECT_EQ(layers.at("").type, "TinyForSequenceClassification");
  EXPECT_EQ(layers.at("c_attn").kind, LayerKind::kConv1D);
  EXPECT_TRUE(
      layers.at("wte").parameter("weight").is_alias_of(layers.at("decoder").parameter("weight")));
}

}  // namespace
}  // namespace lowrank
