#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <lowrank/adapter/config_fields.h>
#include <lowrank/error.h>

#include <nlohmann/json.hpp>
#include <set>
#include <string>

#include "support/expect_error.h"

namespace lowrank {
namespace {

using Json = nlohmann::ordered_json;

/// Returns a config in which no field has its default.
LoraConfig unusual_config() {
  LoraConfig config;
  config.rank = 3;
  config.alpha = 1.5;
  config.target_modules = {"query", "value"};
  config.exclude_modules = ModuleSelector::matching(".*\\.head");
  config.layers_to_transform = {1, 2};
  config.layers_pattern = {"layers"};
  config.rank_pattern = {{"value", 2}, {"query", 4}};  // not in alphabetical order
  config.alpha_pattern = {{"value", 2.5}, {"query", 4}};
  config.modules_to_save = {"classifier"};
  config.trainable_token_indices = {{"embed", {0, 7}}};
  config.bias = BiasMode::kLoraOnly;
  config.init = LoraInit::kPissaNiter;
  config.init_iterations = 5;
  config.use_rslora = true;
  config.use_dora = true;
  config.lora_dropout = 0.25;
  config.extra_json = R"({"task_type":"CAUSAL_LM","eva_config":{"rho":1.5,"tau":0.9}})";
  return config;
}

void expect_equal(const LoraConfig& found, const LoraConfig& expected) {
  EXPECT_EQ(to_json(found).dump(), to_json(expected).dump());
  EXPECT_EQ(found.rank_pattern, expected.rank_pattern);  // in the same order
  EXPECT_EQ(found.init_iterations, expected.init_iterations);
  EXPECT_EQ(Json::parse(found.extra_json), Json::parse(expected.extra_json));
}

TEST(ConfigFields, AreThereAndBackTheSame) {
  const auto config = unusual_config();
  const auto text = to_json(config).dump();
  expect_equal(lora_config_from_json(Json::parse(text), "run.json"), config);
}

/// The options of an initialisation are written only if the config uses it.
TEST(ConfigFields, KeepTheOptionsOfAnInitBesideIt) {
  LoraConfig config;
  config.eva_config = {.rho = 3, .whiten = true, .adjust_scaling_factors = false};
  config.corda_config = {.corda_method = CordaMethod::kKpm};
  config.lora_ga_config = {
      .direction = LoraGaDirection::kArBr, .scale = LoraGaScale::kUnit, .stable_gamma = 8};
  for (const auto& [init, field] :
       {std::pair(LoraInit::kEva, "eva_config"), std::pair(LoraInit::kCorda, "corda_config"),
        std::pair(LoraInit::kLoraGa, "lora_ga_config")}) {
    config.init = init;
    const auto json = to_json(config);
    for (const char* other : {"eva_config", "corda_config", "lora_ga_config"}) {
      EXPECT_EQ(json.contains(other), other == std::string(field)) << other;
    }
    EXPECT_EQ(to_json(lora_config_from_json(json, "run.json")).dump(), json.dump());
  }
}

/// A field that is missing in the table would stay at its default.
TEST(ConfigFields, CopyOneByOneTheWholeConfig) {
  const auto config = unusual_config();
  LoraConfig copy;
  for (const auto& field : config_fields()) copy_field(field, config, copy);
  copy.extra_json = config.extra_json;
  expect_equal(copy, config);
}

TEST(ConfigFields, HaveNamesFlagsAndHelpOfTheirOwn) {
  std::set<std::string> names, flags;
  for (const auto& field : config_fields()) {
    EXPECT_TRUE(names.insert(field.name).second) << field.name;
    const bool is_new = flags.insert(field.flag).second;
    EXPECT_TRUE(is_new || *field.flag == '\0') << field.flag;
    EXPECT_NE(std::string(field.help), "");
  }
}

TEST(ConfigFields, SpellTheirDefaultsAsPeftDoes) {
  const auto json = to_json(LoraConfig());
  EXPECT_EQ(json.at("r"), 8);
  EXPECT_EQ(json.at("lora_alpha").dump(), "8");
  EXPECT_EQ(json.at("target_modules"), Json::array({"all-linear"}));
  EXPECT_TRUE(json.at("layers_to_transform").is_null());
  EXPECT_EQ(json.at("rank_pattern"), Json::object());
  EXPECT_EQ(json.at("bias"), "none");
  EXPECT_EQ(json.at("use_rslora"), false);
}

/// Parameters that are named in addition to a regular expression are PEFT's target_parameters.
TEST(ConfigFields, KeepParametersBesideAnExpression) {
  LoraConfig config;
  config.target_modules = ModuleSelector::matching("encoder\\..*");
  config.target_modules.names = {"lstm.weight_ih_l0"};
  const auto json = to_json(config);
  EXPECT_EQ(json.at("target_parameters"), Json::array({"lstm.weight_ih_l0"}));
  EXPECT_EQ(lora_config_from_json(json, "run.json").target_modules, config.target_modules);
}

TEST(ConfigFields, NameTheFileAndTheFieldOfAWrongValue) {
  const auto refused = [](const char* field, const Json& value, const char* message) {
    auto json = to_json(LoraConfig());
    json[field] = value;
    LOWRANK_EXPECT_ERROR(lora_config_from_json(json, "run.json"), FileError, message);
  };
  refused("r", "two", "\"run.json\" must hold a whole number as r. Got \"two\".");
  refused("lora_dropout", 1.5, "lora_dropout must be at least 0 and below 1. Got 1.5.");
  refused("bias", "some", "bias must be one of none, all, lora_only. Got \"some\"");
  refused("init_lora_weights", "zeros", "init_lora_weights that this version knows");
  refused("use_dora", 1, "\"run.json\" must hold true or false as use_dora. Got 1.");
  refused("eva_config", Json{{"rho", "x"}}, "\"run.json\" must hold a number as rho. Got \"x\".");
}

}  // namespace
}  // namespace lowrank
