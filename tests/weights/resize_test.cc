// Covers src/weights/resize, new_layers and report.
#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <lowrank/adapter/adapter.h>
#include <lowrank/adapter/inspect.h>
#include <lowrank/error.h>
#include <lowrank/io/json.h>
#include <lowrank/io/safetensors.h>
#include <lowrank/weights/resize.h>
#include <torch/nn/modules/container/sequential.h>
#include <torch/nn/modules/conv.h>
#include <torch/nn/modules/embedding.h>
#include <torch/nn/modules/linear.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>
#include <string>

#include "support/expect_error.h"
#include "support/orthonormal.h"
#include "support/temporary_folder.h"

namespace lowrank {
namespace {

namespace nn = torch::nn;

struct Resized : nn::Module {
  nn::Embedding embedding = register_module("embedding", nn::Embedding(11, 6));
  nn::Conv2d conv = register_module("conv", nn::Conv2d(nn::Conv2dOptions(6, 9, {2, 1})));
  nn::Linear head = register_module("head", nn::Linear(9, 7));
  nn::Linear deep_head = register_module("deep_head", nn::Linear(9, 7));
};

class ResizeAdapter : public ::testing::Test {
 protected:
  void SetUp() override {
    at::manual_seed(0);
    net_->to(at::kDouble);
  }

  /// Saves an adapter with random factors, and returns s·B·A of each layer.
  std::map<std::string, at::Tensor> save(LoraConfig config) {
    config.target_modules = {"embedding", "conv", "head", "deep_head"};
    auto adapter = attach(*net_, config);
    std::map<std::string, at::Tensor> updates;
    for (const auto& layer : adapter.layers()) {
      const at::NoGradGuard no_grad;
      layer.a.normal_();
      layer.b.normal_();
      updates[layer.name] = delta_weight(layer).detach().clone();
    }
    adapter.save(folder_ / "old", {.force = true, .base_model = "the-base"});
    adapter.detach();
    return updates;
  }
  std::map<std::string, at::Tensor> updates_in(const std::string& name) {
    auto [adapter, report] = load_adapter(*net_, folder_ / name);
    EXPECT_TRUE(report.base_matches() && report.config_matches);
    std::map<std::string, at::Tensor> updates;
    for (const auto& layer : adapter.layers()) {
      updates[layer.name] = delta_weight(layer).detach().clone();
    }
    adapter.detach();
    return updates;
  }

  const TemporaryFolder folder_;
  const std::shared_ptr<Resized> net_ = std::make_shared<Resized>();
};

/// Against the SVD of the dense update, in float64.
TEST_F(ResizeAdapter, GivesTheBestApproximationOfEachLayer) {
  for (const bool rslora : {false, true}) {
    const auto before = save({.rank = 5, .alpha = -3, .use_rslora = rslora});
    const auto report = resize_adapter(folder_ / "old", folder_ / "new",
                                       {.rule = RankRule::at_most(2), .force = true});
    const auto after = updates_in("new");
    ASSERT_EQ(report.layers.size(), 4);
    for (const auto& layer : report.layers) {
      SCOPED_TRACE(layer.name);
      const auto dense = before.at(layer.name).flatten(1);
      const auto difference = dense - after.at(layer.name).flatten(1);
      const auto s = at::linalg_svdvals(dense);
      EXPECT_EQ(layer.rank_before, 5);
      EXPECT_EQ(layer.rank, 2);
      const double best = norm_of(s.narrow(0, 2, s.size(0) - 2));
      EXPECT_NEAR(norm_of(difference), best, 1e-12 * norm_of(s));
      EXPECT_NEAR(layer.frobenius, norm_of(difference), 1e-12 * norm_of(s));
      EXPECT_NEAR(layer.spectral, at::linalg_svdvals(difference)[0].item<double>(),
                  1e-12 * norm_of(s));
      EXPECT_NEAR(layer.norm, norm_of(dense), 1e-12 * norm_of(s));
    }
    EXPECT_EQ(inspect_adapter(folder_ / "new").base_model, "the-base");
  }
}

TEST_F(ResizeAdapter, ChoosesARankForEachLayer) {
  const auto before = save({.rank = 5, .alpha = 10});
  const auto report =
      resize_adapter(folder_ / "old", folder_ / "new", {.rule = RankRule::max_error(0.5)});
  const auto after = updates_in("new");
  std::map<std::string, int64_t> ranks;
  for (const auto& layer : report.layers) {
    SCOPED_TRACE(layer.name);
    const auto dense = before.at(layer.name).flatten(1);
    const auto s = at::linalg_svdvals(dense);
    int64_t least = 1;
    while (norm_of(s.narrow(0, least, s.size(0) - least)) > 0.5 * norm_of(s)) ++least;
    EXPECT_EQ(layer.rank, least);
    EXPECT_LE(norm_of(dense - after.at(layer.name).flatten(1)), 0.5 * norm_of(dense) * (1 + 1e-12));
    ranks[layer.name] = layer.rank;
  }
  for (const auto& layer : inspect_adapter(folder_ / "new").layers) {
    EXPECT_EQ(layer.rank(), ranks.at(layer.name));
    EXPECT_EQ(layer.scaling, 2) << "each layer keeps its own";
  }
  const auto json = read_json_file(folder_ / "new" / "lowrank_report.json");
  EXPECT_EQ(json.at("layers").size(), 4);
  EXPECT_EQ(json.at("total").at("relative_frobenius"), report.relative());
}

TEST_F(ResizeAdapter, SharesABudgetAmongTheLayers) {
  const auto before = save({.rank = 5, .alpha = 10});
  const auto report =
      resize_adapter(folder_ / "old", folder_ / "new",
                     {.rule = RankRule::numerical(), .budget = 150, .split = SplitScale::kA});
  EXPECT_LE(report.parameters(), 150);
  // No rank could be moved to another layer with a gain.
  double least_taken = 1e300, most_left = 0;
  for (const auto& layer : report.layers) {
    const auto s = at::linalg_svdvals(before.at(layer.name).flatten(1));
    const auto worth = [&, cost = static_cast<double>(layer.rows + layer.columns)](int64_t i) {
      return std::pow(s[i].item<double>(), 2) / cost;
    };
    if (layer.rank > 1) least_taken = std::min(least_taken, worth(layer.rank - 1));
    if (layer.rank < 5) most_left = std::max(most_left, worth(layer.rank));
  }
  EXPECT_GE(least_taken, most_left);
  EXPECT_GT(most_left, 0);
  updates_in("new");
}

/// "head" in rank_pattern would also match the end of "deep.head".
TEST_F(ResizeAdapter, NamesLayersSoThatNoPatternCatchesAnother) {
  struct Nested : nn::Module {
    nn::Linear head = register_module("head", nn::Linear(9, 7));
    nn::Sequential deep = register_module("deep", nn::Sequential());
    Nested() { deep->push_back("head", nn::Linear(9, 7)); }
  };
  Nested net;
  auto adapter = attach(net, {.rank = 4, .alpha = 4, .target_modules = {"head"}});
  for (const auto& layer : adapter.layers()) {
    const at::NoGradGuard no_grad;
    layer.a.normal_();
    layer.b.normal_();
    if (layer.name == "head") layer.b.narrow(1, 1, 3).zero_();  // of rank 1
  }
  adapter.save(folder_ / "old");
  resize_adapter(folder_ / "old", folder_ / "new", {.rule = RankRule::numerical()});
  adapter.detach();
  const auto loaded = load_adapter(net, folder_ / "new");
  for (const auto& layer : loaded.adapter.layers()) {
    EXPECT_EQ(layer.a.size(0), layer.name == "head" ? 1 : 4) << layer.name;
    EXPECT_EQ(layer.scaling, 1) << layer.name;
  }
}

TEST_F(ResizeAdapter, WritesNamesAsRegularExpressions) {
  struct Net : nn::Module {
    nn::Linear odd = register_module("a+b", nn::Linear(9, 7));
    nn::Linear c = register_module("c", nn::Linear(9, 7)),
               d = register_module("d", nn::Linear(9, 7));
  };
  Net net;
  auto adapter = attach(net, {.rank = 4, .alpha = 4, .target_modules = {"a+b", "c", "d"}});
  for (const auto& layer : adapter.layers()) {
    const at::NoGradGuard no_grad;
    layer.b.normal_();
    if (layer.name == "a+b") layer.b.narrow(1, 1, 3).zero_();  // of rank 1
  }
  adapter.save(folder_ / "old");
  resize_adapter(folder_ / "old", folder_ / "new", {.rule = RankRule::numerical()});
  adapter.detach();
  for (const auto& layer : load_adapter(net, folder_ / "new").adapter.layers()) {
    EXPECT_EQ(layer.a.size(0), layer.name == "a+b" ? 1 : 4) << layer.name;
  }
}

TEST_F(ResizeAdapter, RefusesFactorsThatDoNotFitTheirConfig) {
  save({.rank = 2});
  const auto config = read_bytes(folder_ / "old" / "adapter_config.json");
  const auto weights = read_bytes(folder_ / "old" / "adapter_model.safetensors");
  const auto refused = [&](const std::string& message) {
    LOWRANK_EXPECT_ERROR(resize_adapter(folder_ / "old", folder_ / "new", {}), FileError, message);
    EXPECT_FALSE(std::filesystem::exists(folder_ / "new"));
  };
  auto json = nlohmann::ordered_json::parse(config);
  json["r"] = 4;
  folder_.write("old/adapter_config.json", json.dump());
  refused("must be an adapter whose factors have the ranks of its config. Got rank 2 for ");
  folder_.write("old/adapter_config.json", config);

  const auto file = SafetensorsFile::open(folder_ / "old" / "adapter_model.safetensors");
  const auto write_without = [&](const std::string& part, const at::Tensor& instead) {
    std::vector<SafetensorsEntry> entries;
    for (const auto& name : file.names()) {
      const bool is_meant = name.find(part) != std::string::npos;
      if (!is_meant) entries.push_back({name, file.tensor(name).clone()});
      if (is_meant && instead.defined()) entries.push_back({name, instead});
    }
    write_safetensors(folder_ / "old" / "adapter_model.safetensors", entries, file.metadata());
  };
  write_without(".head.lora_A", {});
  refused("pairs of lora_A and lora_B");
  write_without(".head.lora_A", at::zeros({2, 0}));
  refused("must be an adapter with factors that are not empty. Got empty ones of head.");
  folder_.write("old/adapter_model.safetensors", weights);
  const auto report = resize_adapter(folder_ / "old", folder_ / "new",
                                     {.rule = RankRule::at_most(1),
                                      .dtype = at::kDouble,
                                      .further_files = {{"training.json", "{}"}}});
  EXPECT_TRUE(report.config_matches);
  EXPECT_EQ(read_bytes(folder_ / "new" / "training.json"), "{}");
  EXPECT_EQ(inspect_adapter(folder_ / "new").layers[0].dtype, at::kDouble);
}

TEST_F(ResizeAdapter, MeasuresNumbersWhoseSquaresOverflow) {
  save({.rank = 2});
  const auto file = SafetensorsFile::open(folder_ / "old" / "adapter_model.safetensors");
  std::vector<SafetensorsEntry> entries;
  for (const auto& name : file.names()) entries.push_back({name, file.tensor(name) * 1e100});
  write_safetensors(folder_ / "old" / "adapter_model.safetensors", entries, file.metadata());
  const auto report =
      resize_adapter(folder_ / "old", folder_ / "new", {.rule = RankRule::at_most(1)});
  for (const auto& layer : report.layers) {
    EXPECT_TRUE(std::isfinite(layer.norm) && layer.norm > 1e198) << layer.norm;
    EXPECT_TRUE(std::isfinite(layer.relative()) && layer.relative() < 1) << layer.relative();
  }
}

TEST_F(ResizeAdapter, SaysThatRanksDoNotRise) {
  save({.rank = 2});
  const auto report =
      resize_adapter(folder_ / "old", folder_ / "new", {.rule = RankRule::at_most(4)});
  ASSERT_EQ(report.notes.size(), 1U);
  EXPECT_NE(report.notes[0].find("have a smaller rank than was asked for"), std::string::npos);
  EXPECT_FALSE(read_json_file(folder_ / "new" / "adapter_config.json").value("lora_bias", false));
  EXPECT_TRUE(resize_adapter(folder_ / "old", folder_ / "less", {.rule = RankRule::at_most(1)})
                  .notes.empty());
}

TEST_F(ResizeAdapter, RefusesWhatIsNoPlainUpdate) {
  const auto expect_refused = [&](const LoraConfig& config, const std::string& message) {
    const TemporaryFolder folder;
    nn::Sequential net(nn::Linear(6, 5));
    auto adapter = attach(*net, config);
    adapter.save(folder / "old");
    LOWRANK_EXPECT_ERROR(resize_adapter(folder / "old", folder / "new", {}), FileError, message);
    EXPECT_FALSE(std::filesystem::exists(folder / "new"));
  };
  expect_refused({.rank = 2, .use_dora = true}, "must be an adapter without DoRA. Got use_dora.");
  expect_refused({.rank = 2, .init = LoraInit::kPissa},
                 "must be an adapter that leaves its base as it is. Got init_lora_weights");
  save({.rank = 2});
  LOWRANK_EXPECT_ERROR(resize_adapter(folder_ / "old", folder_ / "old", {}), FileError,
                       "must not hold an adapter yet");
  LOWRANK_EXPECT_ERROR(resize_adapter(folder_ / "none", folder_ / "new", {}), FileError,
                       "adapter_config.json");
}

}  // namespace
}  // namespace lowrank
