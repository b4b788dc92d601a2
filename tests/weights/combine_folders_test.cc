#include <lowrank/weights/combine_folders.h>

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>
#include <lowrank/adapter/adapter.h>
#include <lowrank/error.h>
#include <lowrank/io/json.h>
#include <torch/nn/modules/conv.h>
#include <torch/nn/modules/linear.h>

#include <cmath>
#include <map>
#include <nlohmann/json.hpp>
#include <string>

#include "support/expect_error.h"
#include "support/temporary_folder.h"

namespace lowrank {
namespace {

namespace nn = torch::nn;

struct Combined : nn::Module {
  nn::Conv2d conv = register_module("conv", nn::Conv2d(nn::Conv2dOptions(6, 9, {2, 1})));
  nn::Linear head = register_module("head", nn::Linear(9, 7));
  nn::Linear other = register_module("other", nn::Linear(9, 7));
};

using Updates = std::map<std::string, at::Tensor>;

class CombineFolders : public ::testing::Test {
 protected:
  void SetUp() override {
    at::manual_seed(0);
    save("a", {.rank = 3, .alpha = 6, .target_modules = {"conv", "head"}});
    save("b", {.rank = 3, .alpha = 1, .target_modules = {"head", "other"}, .use_rslora = true});
  }
  void save(const std::string& name, const LoraConfig& config) {
    auto adapter = attach(*net_, config);
    randomize(adapter);
    adapter.save(folder_ / name, {.force = true, .base_model = "the-base"});
    adapter.detach();
  }
  static void randomize(const Adapter& adapter) {
    const at::NoGradGuard no_grad;
    for (const auto& layer : adapter.layers()) {
      layer.a.normal_();
      layer.b.normal_();
    }
  }
  static Updates updates_of(const Adapter& adapter) {
    Updates updates;
    for (const auto& layer : adapter.layers()) {
      updates[layer.name] = delta_weight(layer).detach().clone();
    }
    return updates;
  }
  Updates updates_in(const std::string& name) {
    auto [adapter, report] = load_adapter(*net_, folder_ / name);
    EXPECT_TRUE(report.base_matches() && report.config_matches && report.unmatched.empty());
    auto updates = updates_of(adapter);
    adapter.detach();
    return updates;
  }

  const TemporaryFolder folder_;
  const std::shared_ptr<Combined> net_ = std::make_shared<Combined>();
};

/// Adapter::combine() is checked against PEFT; without a model the numbers must be the same.
TEST_F(CombineFolders, GivesWhatCombiningInAModelGives) {
  for (const auto method :
       {CombineMethod::kCat, CombineMethod::kLinear, CombineMethod::kSvd, CombineMethod::kTies,
        CombineMethod::kTiesSvd, CombineMethod::kMagnitudePruneSvd}) {
    SCOPED_TRACE(combine_method_name(method));
    const bool prunes = method != CombineMethod::kCat && method != CombineMethod::kLinear &&
                        method != CombineMethod::kSvd;
    const CombineOptions options = {.method = method, .density = prunes ? 0.6 : 1};
    const auto report = combine_adapter_folders({folder_ / "a", folder_ / "b"}, {0.7, -0.4},
                                                folder_ / "c", {.combine = options, .force = true});
    auto [adapter, loaded] = load_adapter(*net_, folder_ / "a");
    const auto first = adapter.names().front();
    adapter.load("second", folder_ / "b");
    adapter.combine("sum", {first, "second"}, {0.7, -0.4}, options);
    adapter.set_active("sum");
    const auto expected = updates_of(adapter);
    adapter.detach();
    const auto found = updates_in("c");
    ASSERT_EQ(found.size(), 3);
    ASSERT_EQ(report.layers.size(), 3);
    for (const auto& [name, update] : expected) {
      EXPECT_LE((found.at(name) - update).norm().item<double>(),
                1e-5 * update.norm().item<double>())
          << name;
    }
  }
}

TEST_F(CombineFolders, TellsHowFarItIsFromTheSum) {
  const auto a = updates_in("a"), b = updates_in("b");
  for (const auto method : {CombineMethod::kCat, CombineMethod::kSvd, CombineMethod::kLinear}) {
    SCOPED_TRACE(combine_method_name(method));
    const auto report =
        combine_adapter_folders({folder_ / "a", folder_ / "b"}, {2, 1}, folder_ / "c",
                                {.combine = {.method = method}, .force = true});
    const auto found = updates_in("c");
    for (const auto& layer : report.layers) {
      auto sum = at::zeros_like(found.at(layer.name)).to(at::kDouble);
      if (a.contains(layer.name)) sum += 2 * a.at(layer.name).to(at::kDouble);
      if (b.contains(layer.name)) sum += b.at(layer.name).to(at::kDouble);
      const double error = (sum - found.at(layer.name)).norm().item<double>();
      EXPECT_NEAR(layer.norm, sum.norm().item<double>(), 1e-4);
      EXPECT_NEAR(layer.frobenius, error, 1e-4) << layer.name;
      const bool is_exact = method == CombineMethod::kCat || layer.name != "head";
      EXPECT_EQ(layer.frobenius < 1e-4, is_exact) << layer.name;
      EXPECT_EQ(layer.rank, method == CombineMethod::kCat && layer.name == "head" ? 6 : 3);
    }
    const auto json = read_json_file(folder_ / "c" / "lowrank_report.json");
    EXPECT_EQ(json.at("layers").size(), 3);
    EXPECT_EQ(read_json_file(folder_ / "c" / "adapter_config.json").at("base_model_name_or_path"),
              "the-base");
  }
}

TEST_F(CombineFolders, RefusesWhatIsNoSum) {
  const auto combine = [&](const std::vector<std::string>& names,
                           const std::vector<double>& weights) {
    std::vector<std::filesystem::path> folders;
    for (const auto& name : names) folders.push_back(folder_ / name);
    return combine_adapter_folders(folders, weights, folder_ / "c");
  };
  LOWRANK_EXPECT_ERROR(combine({"a", "b"}, {1}), ArgumentError, "Got 2 adapters and 1 weights.");
  LOWRANK_EXPECT_ERROR(combine({}, {}), ArgumentError, "there must be at least one adapter");
  save("biased", {.rank = 1, .target_modules = {"head"}, .bias = BiasMode::kAll});
  LOWRANK_EXPECT_ERROR(combine({"a", "biased"}, {1, 1}), FileError,
                       "biased\" must be an adapter of factors alone. Got");
  save("dora", {.rank = 1, .target_modules = {"head"}, .use_dora = true});
  LOWRANK_EXPECT_ERROR(combine({"a", "dora"}, {1, 1}), FileError, "without DoRA");
  const at::NoGradGuard no_grad;
  net_->head->bias.add_(1);
  save("elsewhere", {.rank = 3, .target_modules = {"head"}});
  LOWRANK_EXPECT_ERROR(combine({"a", "elsewhere"}, {1, 1}), FileError,
                       "the adapters must be for one base. Got SHA-256");
  combine({"a"}, {1});
  LOWRANK_EXPECT_ERROR(combine({"a"}, {1}), FileError, "adapter");
  EXPECT_FALSE(std::filesystem::exists(folder_ / "d"));
}

}  // namespace
}  // namespace lowrank
