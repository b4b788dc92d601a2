#include "adapter/targets/targets.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <lowrank/error.h>

#include <cmath>

#include "adapter/config/name_matching.h"
#include "adapter/targets/decoder.h"
#include "support/expect_error.h"

namespace lowrank {
namespace {

using namespace decoder;
using ::testing::ElementsAre;

TEST_F(Targets, AreNamedInFullOrByTheirEnd) {
  EXPECT_THAT(paths({.target_modules = {"query"}}),
              ElementsAre("model.layers.0.query", "model.layers.1.query", "model.layers.2.query"));
  EXPECT_THAT(paths({.target_modules = {"1.value", "model.layers.0.query"}}),
              ElementsAre("model.layers.0.query", "model.layers.1.value"));
  EXPECT_THAT(paths({.target_modules = {"conv", "embed"}}), ElementsAre("model.embed", "conv"));
}

TEST_F(Targets, AreAllLinearLayersButTheOutputHead) {
  EXPECT_THAT(paths({}),
              ElementsAre("model.layers.0.query", "model.layers.0.value", "model.layers.1.query",
                          "model.layers.1.value", "model.layers.2.query", "model.layers.2.value"));
  EXPECT_EQ(paths({.target_modules = {"All-Linear"}}).size(), 6U);
  // In a module without a head nothing is left out, as in PEFT: neither the last layer nor one that
  // is called "classifier".
  struct Plain : Module {
    Linear first = register_module("first", Linear(4, 4));
    Linear classifier = register_module("classifier", Linear(4, 2));
  } plain;
  EXPECT_EQ(find_targets(layers_of(plain), {}).size(), 2U);
  struct PlainForSequenceClassification : Plain {
  } named;
  EXPECT_EQ(find_targets(layers_of(named), {}).size(), 1U);
  // A layer that shares its weight with the input embedding is a head, whatever its name.
  struct Tied : Module {
    Embedding in = register_module("in", Embedding(9, 4));
    Linear mix = register_module("mix", Linear(4, 4));
    Linear out = register_module("out", Linear(LinearOptions(4, 9).bias(false)));
    Tied() { out->weight = in->weight; }
  } tied;
  const auto found = find_targets(layers_of(tied), {});
  ASSERT_EQ(found.size(), 1U);
  EXPECT_EQ(found[0].path(), "mix");
}

TEST_F(Targets, MatchOneRegularExpressionInFull) {
  EXPECT_THAT(paths({.target_modules = ModuleSelector::matching(R"(.*\.[02]\.(query|value))")}),
              ElementsAre("model.layers.0.query", "model.layers.0.value", "model.layers.2.query",
                          "model.layers.2.value"));
  LOWRANK_EXPECT_ERROR(find({.target_modules = ModuleSelector::matching("query")}), ArgumentError,
                       "target_modules must match at least one layer. Got the regular expression "
                       "\"query\", which matches the whole path of none of model.embed, ");
  LOWRANK_EXPECT_ERROR(find({.target_modules = ModuleSelector::matching(R"(model\.layers\..*)")}),
                       ArgumentError,
                       "which matches \"model.layers.0\", a Block. It holds model.layers.0.query, "
                       "model.layers.0.value.");
}

TEST_F(Targets, LeaveOutWhatIsExcluded) {
  EXPECT_THAT(paths({.exclude_modules = {"value", "layers.1.query"}}),
              ElementsAre("model.layers.0.query", "model.layers.2.query"));
  EXPECT_THAT(paths({.target_modules = {"model.layers.0.query", "value"},
                     .exclude_modules = ModuleSelector::matching(".*[02].query|.*1.*")}),
              ElementsAre("model.layers.0.value", "model.layers.2.value"));
  LOWRANK_EXPECT_ERROR(find({.exclude_modules = {"valeu"}}), ArgumentError,
                       "each of exclude_modules must match a layer. Got \"valeu\", which matches "
                       "none of model.embed, ");
  LOWRANK_EXPECT_ERROR(find({.exclude_modules = ModuleSelector::matching("value")}), ArgumentError,
                       "exclude_modules must match at least one layer");
  LOWRANK_EXPECT_ERROR(find({.target_modules = {"query"}, .exclude_modules = {"query"}}),
                       ArgumentError,
                       "exclude_modules must leave at least one of the target_modules");
}

TEST_F(Targets, LeaveOutWhatIsTrainedWhole) {
  EXPECT_THAT(
      paths({.target_modules = {"query", "lm_head"}, .modules_to_save = {"layers.1", "head"}}),
      ElementsAre("model.layers.0.query", "model.layers.2.query"));
}

TEST_F(Targets, OfSomeLayers) {
  EXPECT_THAT(paths({.target_modules = {"query"}, .layers_to_transform = {0, 2}}),
              ElementsAre("model.layers.0.query", "model.layers.2.query"));
  EXPECT_THAT(paths({.layers_to_transform = {1}, .layers_pattern = {"layers|h"}}),
              ElementsAre("model.layers.1.query", "model.layers.1.value"));
  // The number of a layer that is named in full does not matter, as in PEFT.
  EXPECT_THAT(
      paths({.target_modules = {"model.layers.0.query", "value"}, .layers_to_transform = {1}}),
      ElementsAre("model.layers.0.query", "model.layers.1.value"));
  LOWRANK_EXPECT_ERROR(find({.layers_to_transform = {0, 3}}), ArgumentError,
                       "layers_to_transform must hold indices of the model's layers. Got 3, which "
                       "is none of 0, 1, 2.");
  LOWRANK_EXPECT_ERROR(find({.layers_to_transform = {0}, .layers_pattern = {"blocks"}}),
                       ArgumentError, "Got 0 for a model without numbered layers.");
}

TEST(LayerIndices, TakeTheFirstNumberedSegment) {
  const LayerIndices any({.layers_to_transform = {1}});
  EXPECT_EQ(any.index_of("model.layers.1.experts.7.up"), 1);
  EXPECT_EQ(any.index_of("layers.1.query"), 1);  // PEFT finds none here
  EXPECT_EQ(any.index_of("layers.1"), 1);
  EXPECT_EQ(any.index_of("blocks.2.mlp.0"), 2);
  EXPECT_EQ(any.index_of("h.11.1"), 11);
  EXPECT_EQ(any.index_of("model.norm"), std::nullopt);
  EXPECT_EQ(any.index_of("model.layers.99999999999999999999.x"), std::nullopt);
  const LayerIndices experts({.layers_to_transform = {7}, .layers_pattern = {"experts"}});
  EXPECT_EQ(experts.index_of("model.layers.1.experts.7.up"), 7);
  EXPECT_TRUE(experts.wants("model.layers.1.experts.7.up"));
  EXPECT_FALSE(experts.wants("model.layers.7.up"));
  // The first match of a pattern counts, even at the start of the path (PEFT 0.21).
  const LayerIndices outer({.layers_to_transform = {1}, .layers_pattern = {"h", "layers"}});
  EXPECT_EQ(outer.index_of("layers.1.blocks.0.layers.2.q"), 1);
  EXPECT_EQ(outer.index_of("h.3.layers.1.q"), 3);
}

TEST_F(Targets, HaveTheRankOfTheFirstKeyThatMatches) {
  const auto targets = find({.rank = 2,
                             .alpha = 4,
                             .target_modules = {"query", "1.value"},
                             .rank_pattern = {{"layers.1.query", 16}, {"quer.", 9}},
                             .alpha_pattern = {{"^model.layers.0.query", 3}},
                             .use_rslora = true});
  ASSERT_EQ(targets.size(), 4U);
  EXPECT_EQ(targets[0].rank, 9);
  EXPECT_EQ(targets[0].alpha, 3);
  EXPECT_EQ(targets[0].scaling, 1);
  EXPECT_EQ(targets[1].rank, 16);
  EXPECT_EQ(targets[1].scaling, 1);
  EXPECT_EQ(targets[2].rank, 2);
  EXPECT_EQ(targets[2].scaling, 4 / std::sqrt(2.0));
  EXPECT_EQ(targets[3].rank, 9);
}

TEST_F(Targets, MustMatchEveryKeyOfAPattern) {
  LOWRANK_EXPECT_ERROR(find({.target_modules = {"query"}, .rank_pattern = {{"quary", 4}}}),
                       ArgumentError,
                       "each key of rank_pattern must match an adapted layer. Got \"quary\", which "
                       "matches none of model.layers.0.query, model.layers.1.query, "
                       "model.layers.2.query. Did you mean \"query\"?");
  LOWRANK_EXPECT_ERROR(find({.target_modules = {"query"}, .alpha_pattern = {{"value", 4}}}),
                       ArgumentError, "each key of alpha_pattern");
  // A key that is never used, because another one matches first, is not an error: PEFT sorts keys.
  EXPECT_NO_THROW(
      find({.target_modules = {"query"}, .rank_pattern = {{".*query", 4}, {"0.query", 2}}}));
}

TEST_F(Targets, MayBeParameters) {
  const auto targets = find({.target_modules = {"lstm.weight_ih_l0", "conv.weight"}});
  ASSERT_EQ(targets.size(), 2U);
  EXPECT_EQ(targets[0].path(), "conv.weight");
  EXPECT_EQ(targets[0].kind, LayerKind::kOther);  // the tensor alone, whatever layer reads it
  EXPECT_FALSE(targets[0].bias.defined());
  EXPECT_EQ(targets[1].path(), "lstm.weight_ih_l0");
  EXPECT_EQ(targets[1].kind, LayerKind::kOther);
  EXPECT_FALSE(targets[1].bias.defined());
  EXPECT_THAT(paths({.target_modules = {"lstm"}}),
              ElementsAre("lstm.weight_ih_l0", "lstm.weight_hh_l0"));
  EXPECT_THAT(paths({.target_modules = {"lstm"}, .exclude_modules = {"lstm.weight_hh_l0"}}),
              ElementsAre("lstm.weight_ih_l0"));
  LOWRANK_EXPECT_ERROR(find({.target_modules = {"lstm.bias_ih_l0"}}), ArgumentError,
                       "an adapted parameter must have two or more dimensions. Got "
                       "\"lstm.bias_ih_l0\" of 1.");
  LOWRANK_EXPECT_ERROR(find({.target_modules = {"lstm.wieght_ih_l0"}}), ArgumentError,
                       "Did you mean \"lstm.weight_ih_l0\"?");
}

TEST_F(Targets, MustBeWeights) {
  LOWRANK_EXPECT_ERROR(find({.target_modules = {"norm"}}), ArgumentError,
                       "must match layers with a weight of two or more dimensions. Got \"norm\", "
                       "which matches \"norm\", a BatchNorm2d.");
  LOWRANK_EXPECT_ERROR(find({.target_modules = {"attention.qurey"}}), ArgumentError,
                       "each of target_modules must match a layer");
  BatchNorm1d norm(3);
  LOWRANK_EXPECT_ERROR(find_targets(layers_of(*norm), {}), ArgumentError,
                       "the model must have a weight of two or more dimensions");
  LSTM lstm(2, 3);
  LOWRANK_EXPECT_ERROR(find_targets(layers_of(*lstm), {}), ArgumentError,
                       "all-linear must find a Linear layer other than the output head");
}

TEST_F(Targets, MustNotBeALayerAndAParameter) {
  struct Odd : Module {
    Odd() {
      register_module("up", Linear(2, 2));
      register_module("weight", Linear(2, 2));
    }
  } odd;
  LOWRANK_EXPECT_ERROR(find_targets(layers_of(odd), {.target_modules = {"weight"}}), ArgumentError,
                       "Got \"weight\", which matches the layer \"weight\" and the parameter "
                       "\"up.weight\". Give more of the path.");
}

TEST_F(Targets, MustBeAbleToTakeWhatIsAsked) {
  LOWRANK_EXPECT_ERROR(find({.rank = 3, .target_modules = {"conv"}}), ArgumentError,
                       "the rank must be a multiple of a convolution's groups. Got rank 3 for "
                       "\"conv\" of 2 groups.");
  EXPECT_NO_THROW(find({.target_modules = {"query"}, .lora_bias = true}));
  LOWRANK_EXPECT_ERROR(find({.target_modules = {"query", "lm_head"}, .lora_bias = true}),
                       ArgumentError,
                       "lora_bias must be for layers that have a bias. Got \"lm_head\"");
  LOWRANK_EXPECT_ERROR(find({.rank = 0}), ArgumentError, "rank must be at least 1");
}

TEST(TargetChoice, RefusesAWeightThatANormMakes) {
  struct LinearImpl : Module {  // what tracing makes of a Linear with torch.nn.utils.spectral_norm
    explicit LinearImpl(const std::vector<const char*>& weights) {
      for (const auto* name : weights) register_parameter(name, at::ones({3, 3}));
    }
  };
  struct Model : Module {
    explicit Model(const std::vector<const char*>& weights) {
      register_module("first", Linear(3, 3));
      register_module("normed", std::make_shared<LinearImpl>(weights));
    }
  } spectral({"weight_orig"}), weight({"weight_g", "weight_v"});
  for (const LoraConfig& config : {LoraConfig(), LoraConfig{.target_modules = {"normed"}}}) {
    LOWRANK_EXPECT_ERROR(
        find_targets(layers_of(spectral), config), ArgumentError,
        "Got \"normed\", which computes it from weight_orig in each forward (spectral_norm or "
        "weight_norm). Remove the norm first, or adapt the parameter that it normalises: "
        "\"normed.weight_orig\".");
    LOWRANK_EXPECT_ERROR(find_targets(layers_of(weight), config), ArgumentError,
                         "which computes it from weight_v in each forward");
  }
  EXPECT_EQ(find_targets(layers_of(weight), {.exclude_modules = {"normed"}}).size(), 1U);
  struct ParametrizedLinearImpl : Module {};  // torch.nn.utils.parametrizations
  spectral.register_module("another", std::make_shared<ParametrizedLinearImpl>());
  LOWRANK_EXPECT_ERROR(find_targets(layers_of(spectral), {.exclude_modules = {"normed"}}),
                       ArgumentError, "\"another\", a ParametrizedLinear");
  EXPECT_EQ(find_targets(layers_of(spectral), {.target_modules = {"normed.weight_orig"}})[0].path(),
            "normed.weight_orig");
}

TEST_F(Targets, MayShareAWeightWithAnEmbeddingAlone) {
  EXPECT_THAT(paths({.target_modules = {"lm_head"}}), ElementsAre("lm_head"));
  EXPECT_THAT(paths({.target_modules = {"embed"}}), ElementsAre("model.embed"));
  net_.model->layers[0]->as<Block>()->query->weight =
      net_.model->layers[0]->as<Block>()->value->weight;
  LOWRANK_EXPECT_ERROR(find({.target_modules = {"0.value"}}), TensorError,
                       "an adapted weight must belong to one layer. Got "
                       "\"model.layers.0.value.weight\" and \"model.layers.0.query.weight\", which "
                       "are one tensor.");
  EXPECT_NO_THROW(find({.target_modules = {"1.value"}}));
}

}  // namespace
}  // namespace lowrank
