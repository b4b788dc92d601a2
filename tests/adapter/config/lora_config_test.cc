#include <gtest/gtest.h>
#include <lowrank/adapter/lora_config.h>
#include <lowrank/error.h>

#include <cmath>
#include <limits>

#include "support/expect_error.h"

namespace lowrank {
namespace {

TEST(LoraConfig, Scales) {
  EXPECT_EQ((LoraConfig{.rank = 4, .alpha = 6}.scaling()), 1.5);
  EXPECT_EQ((LoraConfig{.rank = 4, .alpha = 6, .use_rslora = true}.scaling()), 3);
}

TEST(LoraConfig, GivesEachLayerItsRankAndAlpha) {
  const LoraConfig config = {.rank = 4,
                             .alpha = 6,
                             .rank_pattern = {{"a.query", 2}, {"query", 8}},
                             .alpha_pattern = {{"key|value", 1}}};
  EXPECT_EQ(config_of_layer(config, "x.a.query").scaling(), 3);
  EXPECT_EQ(config_of_layer(config, "b.query").scaling(), 0.75);
  EXPECT_EQ(config_of_layer(config, "b.key").scaling(), 0.25);
  EXPECT_EQ(config_of_layer(config, "key.b").scaling(), 1.5);
}

struct Refused {
  const char* name;
  LoraConfig config;
  const char* message;
};

class RefusedConfig : public testing::TestWithParam<Refused> {};

TEST_P(RefusedConfig, NamesTheField) {
  LOWRANK_EXPECT_ERROR(check(GetParam().config), ArgumentError, GetParam().message);
}

INSTANTIATE_TEST_SUITE_P(
    Fields, RefusedConfig,
    testing::Values(
        Refused{"rank", {.rank = 0}, "[attach] rank must be at least 1. Got 0."},
        Refused{"huge_rank",
                {.rank = 9223372036854775807},
                "rank must be at most 1000000. Got 9223372036854775807."},
        Refused{"niter",
                {.init = LoraInit::kPissaNiter, .init_iterations = 9'000'000'000'000},
                "the iterations of pissa_niter must be at most 1000. Got 9000000000000."},
        Refused{"huge_rho",
                {.eva_config = {.rho = 1e300}},
                "the rho of eva_config must be finite, at least 1 and at most 1000000."},
        Refused{"alpha", {.alpha = 0}, "alpha must be finite and not 0. Got 0."},
        Refused{"huge_alpha",
                {.alpha = -1e300},
                "alpha must be between -1e+30 and 1e+30. Got -1e+300."},
        Refused{"infinite_alpha",
                {.alpha = std::numeric_limits<double>::infinity()},
                "alpha must be finite and not 0. Got inf."},
        Refused{"no_targets", {.target_modules = {}}, "Got an empty list."},
        Refused{"empty_name", {.target_modules = {"a", ""}}, "must not hold an empty name"},
        Refused{"regex", {.target_modules = ModuleSelector::matching("(")}, "wrong at character 2"},
        Refused{"exclude_regex",
                {.exclude_modules = ModuleSelector::matching("[")},
                "exclude_modules must be a regular expression"},
        Refused{"negative_layer", {.layers_to_transform = {0, -1}}, "indices from 0. Got -1."},
        Refused{"pattern_alone",
                {.layers_pattern = {"layers"}},
                "layers_pattern must come with layers_to_transform"},
        Refused{"layers_with_regex",
                {.target_modules = ModuleSelector::matching(".*q"), .layers_to_transform = {1}},
                "layers_to_transform must come with names as target_modules. Got the regular "
                "expression \".*q\". Put the indices into the expression."},
        Refused{"layers_pattern_regex",
                {.layers_to_transform = {1}, .layers_pattern = {"h("}},
                "layers_pattern must be a regular expression. Got \"h(\""},
        Refused{"rank_in_pattern",
                {.rank_pattern = {{"query", 0}}},
                "the rank of \"query\" in rank_pattern must be at least 1. Got 0."},
        Refused{"alpha_in_pattern",
                {.alpha_pattern = {{"query", std::nan("")}}},
                "the alpha of \"query\" in alpha_pattern must be finite and not 0. Got nan."},
        Refused{"key_twice",
                {.rank_pattern = {{"query", 1}, {"query", 2}}},
                "the keys of rank_pattern must differ. Got \"query\" twice."},
        Refused{"key_regex",
                {.alpha_pattern = {{"query)", 1}}},
                "each key of alpha_pattern must be a regular expression. Got \"query)\""},
        Refused{"saved_name", {.modules_to_save = {""}}, "modules_to_save must not hold an empty"},
        Refused{"odd_orthogonal",
                {.rank = 3, .init = LoraInit::kOrthogonal},
                "rank must be even with the init orthogonal. Got 3."},
        Refused{"odd_orthogonal_pattern",
                {.rank_pattern = {{"query", 3}}, .init = LoraInit::kOrthogonal},
                "in rank_pattern must be even with the init orthogonal. Got 3."},
        Refused{"iterations",
                {.init = LoraInit::kPissaNiter, .init_iterations = -1},
                "init_iterations must be at least 0. Got -1."},
        Refused{"bias_with_dora", {.use_dora = true, .lora_bias = true}, "without use_dora"},
        Refused{"bias_with_pissa",
                {.init = LoraInit::kPissa, .lora_bias = true},
                "lora_bias must come with the init kaiming or normal. Got pissa."},
        Refused{
            "dropout", {.lora_dropout = 1}, "lora_dropout must be at least 0 and below 1. Got 1."},
        Refused{"nan_dropout", {.lora_dropout = std::nan("")}, "lora_dropout must be"},
        Refused{"extra", {.extra_json = "[1]"}, "extra_json must be a JSON object. Got \"[1]\"."}),
    [](const auto& test) { return test.param.name; });

TEST(LoraConfig, RefusesNamesAndARegularExpression) {
  LoraConfig config;
  config.target_modules.regex = ".*q";
  LOWRANK_EXPECT_ERROR(check(config), ArgumentError,
                       "target_modules must be names or a regular expression, not both. Got "
                       "all-linear and \".*q\".");
}

TEST(LoraConfig, TakesAllOfItsFields) {
  EXPECT_NO_THROW(check({.rank = 2,
                         .alpha = -1,
                         .target_modules = {"query"},
                         .exclude_modules = ModuleSelector::matching(".*0.*"),
                         .layers_to_transform = {0, 3},
                         .layers_pattern = {"layers"},
                         .rank_pattern = {{"^model.query", 4}},
                         .alpha_pattern = {{"value", 0.5}},
                         .modules_to_save = {"score"},
                         .bias = BiasMode::kAll,
                         .init = LoraInit::kOrthogonal,
                         .use_rslora = true,
                         .use_dora = true,
                         .lora_dropout = 0.99,
                         .extra_json = "{}"}));
}

TEST(LoraConfig, NamesItsInitAndItsBias) {
  LoraConfig config;
  for (const char* name : {"kaiming", "gaussian", "normal", "orthogonal", "pissa", "pissa_niter_4",
                           "olora", "eva", "corda", "lora_ga"}) {
    set_init(config, name);
    EXPECT_EQ(init_name(config), name);
  }
  EXPECT_EQ(config.init_iterations, 4);
  for (const char* name : {"none", "all", "lora_only"}) {
    EXPECT_EQ(bias_name(bias_mode(name)), name);
  }
  LOWRANK_EXPECT_ERROR(set_init(config, "pisa"), ArgumentError, "Did you mean \"pissa\"?");
  LOWRANK_EXPECT_ERROR(set_init(config, "pissa_niter_"), ArgumentError, "init must be one of");
  LOWRANK_EXPECT_ERROR(set_init(config, "pissa_niter_-1"), ArgumentError, "init must be one of");
  LOWRANK_EXPECT_ERROR(bias_mode("lora"), ArgumentError,
                       "bias must be one of none, all, lora_only. Got \"lora\".");
}

}  // namespace
}  // namespace lowrank
