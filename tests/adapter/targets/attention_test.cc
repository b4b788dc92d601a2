// Covers MultiheadAttention as a target: src/adapter/targets and src/adapter/peft.

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <lowrank/adapter/adapter.h>
#include <lowrank/adapter/plan.h>
#include <lowrank/error.h>
#include <lowrank/io/json.h>
#include <torch/nn/modules/activation.h>
#include <torch/nn/pimpl.h>

#include <memory>
#include <string>
#include <vector>

#include "support/dense_reference.h"
#include "support/expect_error.h"
#include "support/temporary_folder.h"

// MultiheadAttention as a target: its two weights are one layer in the config and in the file.
namespace lowrank {
namespace {

using Names = std::vector<std::string>;

struct Attending : torch::nn::Module {
  torch::nn::MultiheadAttention attn;
  Attending() : attn(register_module("attn", torch::nn::MultiheadAttention(8, 2))) {}
  at::Tensor forward(const at::Tensor& x) { return std::get<0>(attn(x, x, x)); }
};

class Attention : public testing::Test {
 protected:
  nlohmann::json saved_config(const Adapter& adapter, const std::string& name = "") {
    adapter.save(folder_ / "saved", {.force = true, .adapter = name});
    return read_json_file(folder_ / "saved" / "adapter_config.json");
  }
  static Names layers(const Adapter& adapter, const std::string& name = "") {
    Names names;
    for (const auto& layer : adapter.layers(name)) names.push_back(layer.name);
    return names;
  }
  static Names parameters(const Adapter& adapter, const std::string& name = "") {
    Names names;
    for (const auto& [parameter, tensor] : adapter.named_parameters(name)) {
      names.push_back(parameter);
    }
    return names;
  }

  std::shared_ptr<Attending> model_ = std::make_shared<Attending>();
  at::Tensor x_ = at::randn({3, 2, 8});
  TemporaryFolder folder_;
};

const Names kBoth = {"attn", "attn.out_proj"};
const Names kParameters = {"attn.lora_A.weight", "attn.lora_B.weight",
                           "attn.base_layer.out_proj.lora_A.weight",
                           "attn.base_layer.out_proj.lora_B.weight"};

TEST_F(Attention, IsBothItsWeightsUnderOneName) {
  for (const auto& targets :
       {ModuleSelector{"attn"}, ModuleSelector{"out_proj", "attn"},
        ModuleSelector{"attn", "out_proj"}, ModuleSelector::matching("attn.*")}) {
    const auto adapter = attach(*model_, {.rank = 2, .target_modules = targets});
    EXPECT_EQ(layers(adapter), kBoth);
    EXPECT_EQ(parameters(adapter), kParameters);
    Adapter(adapter).detach();
  }
  const auto config = saved_config(attach(*model_, {.rank = 2, .target_modules = {"attn"}}));
  EXPECT_EQ(config["target_modules"], Names{"attn"});
  EXPECT_TRUE(config["target_parameters"].is_null());
}

TEST_F(Attention, TakesRankAndAlphaByItsOwnName) {
  const auto plan = plan_adapter(
      *model_,
      {.target_modules = {"attn"}, .rank_pattern = {{"attn", 3}}, .alpha_pattern = {{"attn", 5}}});
  ASSERT_EQ(plan.layers.size(), 2);
  for (const auto& layer : plan.layers) {
    EXPECT_EQ(layer.rank, 3);
    EXPECT_EQ(layer.alpha, 5);
  }
  LOWRANK_EXPECT_ERROR(
      plan_adapter(*model_, {.target_modules = {"attn"}, .rank_pattern = {{"out_proj", 3}}}),
      ArgumentError, "each key of rank_pattern must match an adapted layer");
}

TEST_F(Attention, IsOneWeightWhereTheOtherIsExcluded) {
  auto input = attach(*model_, {.target_modules = {"attn"}, .exclude_modules = {"out_proj"}});
  EXPECT_EQ(layers(input), Names{"attn.in_proj_weight"});
  EXPECT_EQ(saved_config(input)["target_parameters"], Names{"attn.in_proj_weight"});
  input.detach();
  const auto output = attach(*model_, {.target_modules = {"out_proj"}});
  EXPECT_EQ(layers(output), Names{"attn.out_proj"});
  EXPECT_EQ(parameters(output),
            (Names{"attn.out_proj.lora_A.weight", "attn.out_proj.lora_B.weight"}));
}

TEST_F(Attention, GivesAFileBackItsNumbers) {
  auto adapter =
      attach(*model_, {.rank = 2, .target_modules = {"attn"}, .bias = BiasMode::kLoraOnly});
  randomize(adapter);
  const auto y = model_->forward(x_).detach();
  adapter.save(folder_ / "saved");
  adapter.detach();
  EXPECT_GT(relative_error(model_->forward(x_).detach(), y), 1e-2);
  const auto again = load_adapter(*model_, folder_ / "saved");
  EXPECT_TRUE(at::equal(model_->forward(x_).detach(), y));
  EXPECT_EQ(parameters(again.adapter).back(), "attn.base_layer.out_proj.base_layer.bias");
}

TEST_F(Attention, CombinesWithAnotherAndWithOneOfItsWeights) {
  auto adapter = attach(*model_, {.rank = 2, .target_modules = {"attn"}}, "one");
  adapter.add("two", {.rank = 3, .target_modules = {"attn"}});
  adapter.add("input", {.rank = 1, .target_modules = {"attn.in_proj_weight"}});
  for (const auto* name : {"one", "two", "input"}) randomize(adapter, name);
  const CombineOptions cat = {.method = CombineMethod::kCat};
  adapter.combine("whole", {"one", "two"}, {1, 1}, cat);
  EXPECT_EQ(parameters(adapter, "whole"), kParameters);
  EXPECT_EQ(saved_config(adapter, "whole")["target_modules"], Names{"attn"});
  // The two weights now have the ranks 3 and 2, which one name in a config cannot express.
  adapter.combine("parts", {"one", "input"}, {1, 1}, cat);
  EXPECT_EQ(layers(adapter, "parts"), (Names{"attn.in_proj_weight", "attn.out_proj"}));
  const auto config = saved_config(adapter, "parts");
  EXPECT_EQ(config["target_parameters"], Names{"attn.in_proj_weight"});
  EXPECT_EQ(config["target_modules"], Names{"attn.out_proj"});

  for (const auto* name : {"whole", "parts"}) {
    adapter.set_active({"one", std::string(name) == "whole" ? "two" : "input"});
    const auto y = model_->forward(x_).detach();
    adapter.set_active({name});
    EXPECT_LE(relative_error(model_->forward(x_).detach(), y), 1e-5);
    adapter.save(folder_ / name, {.adapter = name});
    adapter.load("again", folder_ / name, /*replace=*/true);
    adapter.set_active({"again"});
    EXPECT_LE(relative_error(model_->forward(x_).detach(), y), 1e-5);
  }
}

}  // namespace
}  // namespace lowrank
