#include "adapter/peft/adapter_config.h"

#include <gtest/gtest.h>
#include <lowrank/error.h>
#include <lowrank/io/json.h>

#include "support/expect_error.h"
#include "support/temporary_folder.h"

namespace lowrank {
namespace {

using Json = nlohmann::ordered_json;

LoraConfig read(const Json& json) { return from_peft_json(json, "adapter_config.json"); }

Json minimal() { return {{"peft_type", "LORA"}, {"target_modules", {"query"}}}; }

LoraConfig with(const char* field, const Json& value) {
  auto json = minimal();
  json[field] = value;
  return read(json);
}

/// Returns a config in which no field has its default.
LoraConfig full() {
  return {.rank = 4,
          .alpha = 2.5,
          .target_modules = {"query", "value"},
          .exclude_modules = ModuleSelector::matching(".*1.*"),
          .layers_to_transform = {0, 2},
          .layers_pattern = {"layers"},
          .rank_pattern = {{"value", 2}, {"query", 6}},
          .alpha_pattern = {{"value", 1}, {"0.query", 0.5}},
          .modules_to_save = {"score"},
          .bias = BiasMode::kLoraOnly,
          .init = LoraInit::kPissaNiter,
          .init_iterations = 4,
          .use_rslora = true,
          .use_dora = true,
          .lora_dropout = 0.25};
}

void expect_same(const LoraConfig& found, const LoraConfig& expected) {
  EXPECT_EQ(found.rank, expected.rank);
  EXPECT_EQ(found.alpha, expected.alpha);
  EXPECT_EQ(found.target_modules, expected.target_modules);
  EXPECT_EQ(found.exclude_modules, expected.exclude_modules);
  EXPECT_EQ(found.layers_to_transform, expected.layers_to_transform);
  EXPECT_EQ(found.layers_pattern, expected.layers_pattern);
  EXPECT_EQ(found.rank_pattern, expected.rank_pattern);
  EXPECT_EQ(found.alpha_pattern, expected.alpha_pattern);
  EXPECT_EQ(found.modules_to_save, expected.modules_to_save);
  EXPECT_EQ(found.bias, expected.bias);
  EXPECT_EQ(init_name(found), init_name(expected));
  EXPECT_EQ(found.use_rslora, expected.use_rslora);
  EXPECT_EQ(found.use_dora, expected.use_dora);
  EXPECT_EQ(found.lora_bias, expected.lora_bias);
  EXPECT_EQ(found.lora_dropout, expected.lora_dropout);
}

const PeftTargets kTargets = {.modules = {"model.layers.0.query", "model.layers.0.value"}};

// The config is written to text and read from it, as with a file.
TEST(PeftConfig, ComesBackFieldByField) {
  const TemporaryFolder folder;
  const auto file = folder.write("adapter_config.json", to_peft_json(full(), kTargets).dump(2));
  expect_same(read_lora_config(file), full());
  const LoraConfig other{.target_modules = ModuleSelector::matching(".*query"), .lora_bias = true};
  expect_same(read(to_peft_json(other, kTargets)), other);
}

TEST(PeftConfig, IsWrittenAsPeftWritesIt) {
  const auto json = to_peft_json({.rank = 4, .alpha = 16, .target_modules = {"query", "value"}},
                                 {.modules = {"0.query", "0.value"}, .base_model = "base"});
  EXPECT_EQ(json.dump(),
            R"({"alpha_pattern":{},"auto_mapping":null,"base_model_name_or_path":"base",)"
            R"("bias":"none","exclude_modules":null,"fan_in_fan_out":false,"inference_mode":true,)"
            R"("init_lora_weights":true,"layers_pattern":null,"layers_to_transform":null,)"
            R"("lora_alpha":16,"lora_bias":false,"lora_dropout":0.0,"modules_to_save":null,)"
            R"("peft_type":"LORA","r":4,"rank_pattern":{},"revision":null,)"
            R"("target_modules":["query","value"],"target_parameters":null,"task_type":null,)"
            R"("trainable_token_indices":null,"use_dora":false,"use_rslora":false})");
}

TEST(PeftConfig, NamesTheLayersWherePeftWouldFindOthers) {
  EXPECT_EQ(to_peft_json({}, kTargets)["target_modules"], Json(kTargets.modules));
  const auto json = to_peft_json({.target_modules = {"query", "lstm"}},
                                 {.modules = {"query"},
                                  .parameters = {"lstm.weight_ih_l0", "lstm.weight_hh_l0"},
                                  .fan_in_fan_out = true});
  EXPECT_EQ(json["target_modules"], Json({"query"}));
  EXPECT_EQ(json["target_parameters"], Json({"lstm.weight_ih_l0", "lstm.weight_hh_l0"}));
  EXPECT_EQ(json["fan_in_fan_out"], true);
  EXPECT_EQ(read(json).target_modules,
            (ModuleSelector{"query", "lstm.weight_ih_l0", "lstm.weight_hh_l0"}));
}

// PEFT finds no layer number in "layers.0.query", and needs none for layers that are named in full.
TEST(PeftConfig, NamesTheLayersThatPeftWouldNotNumber) {
  const LoraConfig config{.target_modules = {"query", "value"}, .layers_to_transform = {0}};
  EXPECT_EQ(to_peft_json(config, kTargets)["target_modules"], Json({"query", "value"}));
  const std::vector<std::string> paths = {"layers.0.query", "layers.0.value"};
  const auto json = to_peft_json(config, {.modules = paths});
  EXPECT_EQ(json["target_modules"], Json(paths));
  EXPECT_EQ(json["layers_to_transform"], Json(std::vector<int>{0}));
}

TEST(PeftConfig, KeepsTokenIndicesInTheirForm) {
  auto json = minimal();
  for (const auto& indices : {Json({5, 2}), Json({{"embed", {3}}, {"kinds", {0, 1}}})}) {
    json["trainable_token_indices"] = indices;
    EXPECT_EQ(to_peft_json(read(json), kTargets)["trainable_token_indices"], indices);
  }
  EXPECT_EQ(read(json).trainable_token_indices.at(1).second, (std::vector<int64_t>{0, 1}));
}

// The first match counts, so sorting the keys would give another adapter.
TEST(PeftConfig, KeepsTheOrderOfPatterns) {
  auto json = minimal();
  json["rank_pattern"] = Json::parse(R"({"z.query": 2, ".*query": 4, "a": 1})");
  const auto config = read(json);
  EXPECT_EQ(config.rank_pattern, (std::vector<std::pair<std::string, int64_t>>{
                                     {"z.query", 2}, {".*query", 4}, {"a", 1}}));
  EXPECT_EQ(to_peft_json(config, kTargets)["rank_pattern"].dump(),
            R"({"z.query":2,".*query":4,"a":1})");
}

/// The fields are those that PEFT's asdict writes.
TEST(PeftConfig, ReadsAndWritesTheInitsThatLookAtData) {
  auto json = minimal();
  json["init_lora_weights"] = "eva";
  json["eva_config"] = Json::parse(R"({"rho": 1.5, "tau": 0.9, "use_label_mask": true,
      "label_mask_value": -100, "whiten": true, "adjust_scaling_factors": false})");
  const auto eva = read(json);
  EXPECT_EQ(eva.eva_config.rho, 1.5);
  EXPECT_TRUE(eva.eva_config.whiten);
  EXPECT_FALSE(eva.eva_config.adjust_scaling_factors);
  EXPECT_EQ(to_peft_json(eva, kTargets)["eva_config"], json["eva_config"]);

  json["init_lora_weights"] = "corda";
  json["corda_config"] = {{"cache_file", nullptr}, {"corda_method", "kpm"}};
  EXPECT_EQ(read(json).corda_config.corda_method, CordaMethod::kKpm);
  EXPECT_EQ(to_peft_json(read(json), kTargets)["corda_config"], json["corda_config"]);

  json["init_lora_weights"] = "lora_ga";
  json["lora_ga_config"] = {{"direction", "A2rBr"}, {"scale", "weight_svd"}, {"stable_gamma", 8.0}};
  const auto ga = read(json).lora_ga_config;
  EXPECT_EQ(ga.direction, LoraGaDirection::kA2rBr);
  EXPECT_EQ(ga.scale, LoraGaScale::kWeightSvd);
  EXPECT_EQ(ga.stable_gamma, 8);
  EXPECT_EQ(to_peft_json(read(json), kTargets)["lora_ga_config"], json["lora_ga_config"]);

  auto fresh = read(minimal());
  fresh.init = LoraInit::kEva;
  EXPECT_EQ(to_peft_json(fresh, kTargets)["eva_config"]["rho"], 2.0);
}

TEST(PeftConfig, RefusesWrongInitOptions) {
  const auto refused = [](const char* field, const Json& value, const char* message) {
    auto json = minimal();
    json[field] = value;
    LOWRANK_EXPECT_ERROR(read(json), FileError, message);
  };
  refused("eva_config", {{"rho", 0.5}}, "the rho of eva_config must be finite, at least 1");
  refused("eva_config", {{"whiten", 1}}, "true or false as whiten. Got 1.");
  refused("eva_config", 3, "a JSON object. Got JSON of type number.");
  refused("corda_config", {{"corda_method", "imp"}},
          "corda_method must be one of ipm, kpm. Got \"imp\".");
  refused("lora_ga_config", {{"direction", "ArB"}},
          "the direction of lora_ga_config must be one of ArBr, A2rBr, ArB2r, random");
  refused("lora_ga_config", {{"scale", "big"}},
          "the scale of lora_ga_config must be one of stable, weight_svd, gd_scale, unit");
  refused("lora_ga_config", {{"stable_gamma", 0}},
          "the stable_gamma of lora_ga_config must be finite and above 0. Got 0.");
}

TEST(PeftConfig, KeepsWhatDoesNotMatter) {
  auto json = minimal();
  json["task_type"] = "SEQ_CLS";
  json["eva_config"] = {{"rho", 2.0}};
  json["something_new"] = {1, 2};
  json["base_model_name_or_path"] = "org/model";
  const auto written = to_peft_json(read(json), kTargets);
  EXPECT_EQ(written["task_type"], "SEQ_CLS");
  EXPECT_EQ(written["eva_config"], json["eva_config"]);
  EXPECT_EQ(written["something_new"], json["something_new"]);
  EXPECT_EQ(written["base_model_name_or_path"], "org/model");
  auto targets = kTargets;
  targets.base_model = "other";
  EXPECT_EQ(to_peft_json(read(json), targets)["base_model_name_or_path"], "other");
}

TEST(PeftConfig, ReadsEveryFormOfAField) {
  EXPECT_EQ(with("target_modules", "all-linear").target_modules, ModuleSelector{"all-linear"});
  EXPECT_EQ(with("target_modules", ".*query").target_modules, ModuleSelector::matching(".*query"));
  EXPECT_EQ(with("layers_to_transform", 3).layers_to_transform, std::vector<int64_t>{3});
  auto json = minimal();
  json["layers_to_transform"] = {1};
  json["layers_pattern"] = "h";
  EXPECT_EQ(read(json).layers_pattern, std::vector<std::string>{"h"});
  EXPECT_EQ(with("fan_in_fan_out", true).rank, 8);
  EXPECT_EQ(with("lora_alpha", 0.5).alpha, 0.5);
  for (const char* name :
       {"gaussian", "orthogonal", "pissa", "pissa_niter_16", "olora", "eva", "corda", "lora_ga"}) {
    const auto config = with("init_lora_weights", name);
    EXPECT_EQ(init_name(config), name);
    EXPECT_EQ(to_peft_json(config, kTargets)["init_lora_weights"], name);
  }
  EXPECT_EQ(with("init_lora_weights", "OLoRA").init, LoraInit::kOlora);
  EXPECT_EQ(with("init_lora_weights", true).init, LoraInit::kKaimingUniform);
  EXPECT_EQ(with("init_lora_weights", false).init, LoraInit::kKaimingUniform);
  EXPECT_EQ(to_peft_json({.init = LoraInit::kNormal}, kTargets)["init_lora_weights"], true);
}

struct RefusedFile {
  const char* field;
  Json value;
  const char* message;
};

class RefusedField : public testing::TestWithParam<RefusedFile> {};

TEST_P(RefusedField, IsNamed) {
  const auto& [field, value, message] = GetParam();
  LOWRANK_EXPECT_ERROR(with(field, value), FileError, message);
  LOWRANK_EXPECT_ERROR(with(field, value), FileError, "adapter_config.json");
}

INSTANTIATE_TEST_SUITE_P(
    WrongTypes, RefusedField,
    testing::Values(
        RefusedFile{"r", "two",
                    "[load] \"adapter_config.json\" must hold a whole number as r. Got \"two\"."},
        RefusedFile{"r", 2.5, "a whole number as r. Got 2.5."},
        RefusedFile{"r", 0, "an r of at least 1. Got 0."},
        RefusedFile{"r", UINT64_MAX, "a whole number as r"},
        RefusedFile{"lora_alpha", "16", "a number as lora_alpha. Got \"16\"."},
        RefusedFile{"lora_alpha", 0, "a lora_alpha other than 0"},
        RefusedFile{"lora_dropout", 1.5, "lora_dropout must be at least 0 and below 1. Got 1.5."},
        RefusedFile{"lora_dropout", true, "a number as lora_dropout. Got true."},
        RefusedFile{"use_rslora", 1, "true or false as use_rslora. Got 1."},
        RefusedFile{"use_dora", "yes", "true or false as use_dora"},
        RefusedFile{"lora_bias", 0, "true or false as lora_bias"},
        RefusedFile{"fan_in_fan_out", "no", "true or false as fan_in_fan_out"},
        RefusedFile{"bias", true, "a string as bias. Got true."},
        RefusedFile{"bias", "some", "bias must be one of none, all, lora_only. Got \"some\"."},
        RefusedFile{"target_modules", Json::array(),
                    "must hold target_modules. Got an empty list."},
        RefusedFile{"target_modules", nullptr, "must hold target_modules. Got none."},
        RefusedFile{
            "target_modules", {{"a", 1}}, "a list of names as target_modules. Got {\"a\":1}."},
        RefusedFile{"target_modules", {"a", 1}, "a list of names as target_modules. Got 1 in it."},
        RefusedFile{"target_modules", "(", "target_modules must be a regular expression"},
        RefusedFile{"target_parameters", "a", "a list of names as target_parameters"},
        RefusedFile{"exclude_modules", 1, "a list of names as exclude_modules"},
        RefusedFile{"modules_to_save", "score", "a list of names as modules_to_save"},
        RefusedFile{"layers_to_transform",
                    {0, "1"},
                    "whole numbers as layers_to_transform. Got \"1\" in it."},
        RefusedFile{"layers_pattern", {1}, "a list of names as layers_pattern"},
        RefusedFile{
            "rank_pattern", {1, 2}, "an object of names and numbers as rank_pattern. Got [1,2]."},
        RefusedFile{"rank_pattern",
                    {{"query", 1.5}},
                    "whole numbers in rank_pattern. Got 1.5 for \"query\"."},
        RefusedFile{"rank_pattern",
                    {{"query", 0}},
                    "the rank of \"query\" in rank_pattern must be at least 1"},
        RefusedFile{"alpha_pattern",
                    {{"query", "x"}},
                    "numbers in alpha_pattern. Got \"x\" for \"query\"."},
        RefusedFile{"init_lora_weights", 1, "a string as init_lora_weights. Got 1."},
        RefusedFile{"init_lora_weights", "loftq", "init must be one of kaiming, gaussian"},
        RefusedFile{"init_lora_weights", "normal", "PEFT's name of an init. Got normal."},
        RefusedFile{"peft_type", "ADALORA", "peft_type \"LORA\". Got \"ADALORA\"."},
        RefusedFile{"peft_type", nullptr, "peft_type \"LORA\". Got \"none\"."}));

INSTANTIATE_TEST_SUITE_P(
    NotHonoured, RefusedField,
    testing::Values(
        RefusedFile{"kasa_config",
                    {{"a", 1}},
                    "no kasa_config (KaSA), which this version cannot honour. Got {\"a\":1}."},
        RefusedFile{"use_bdlora", {{"a", 1}}, "no use_bdlora"},
        RefusedFile{"alora_invocation_tokens", {1, 2}, "no alora_invocation_tokens"},
        RefusedFile{"use_qalora", true, "no use_qalora"},
        RefusedFile{"arrow_config", {{"top_k", 3}}, "no arrow_config"},
        RefusedFile{"trainable_token_indices",
                    {{"embed", {"5"}}},
                    "whole numbers as trainable_token_indices"},
        RefusedFile{"trainable_token_indices", {5, 5}, "distinct indices from 0. Got 5 twice."},
        RefusedFile{"r", nullptr, "a number as r"},
        RefusedFile{"lora_alpha", nullptr, "a number as lora_alpha"},
        RefusedFile{"layer_replication", {{0, 4}, {2, 5}}, "no layer_replication"},
        RefusedFile{"megatron_config", {{"a", 1}}, "no megatron_config"},
        RefusedFile{"ensure_weight_tying", true, "no ensure_weight_tying"}));

TEST(PeftConfig, RefusesWhatIsNoConfig) {
  LOWRANK_EXPECT_ERROR(read(Json::array()), FileError,
                       "must hold a JSON object. Got JSON of type array.");
  auto json = minimal();
  json["target_modules"] = ".*query";
  json["target_parameters"] = {"lstm.weight_ih_l0"};
  const auto both = read(json).target_modules;
  EXPECT_EQ(both.regex, ".*query");
  EXPECT_EQ(both.names, std::vector<std::string>{"lstm.weight_ih_l0"});
  json = minimal();
  json["target_modules"] = ".*query";
  json["layers_to_transform"] = {1};
  LOWRANK_EXPECT_ERROR(read(json), FileError, "layers_to_transform must come with names");
}

}  // namespace
}  // namespace lowrank
