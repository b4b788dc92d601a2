#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <lowrank/adapter/adapter.h>
#include <lowrank/adapter/inspect.h>
#include <lowrank/error.h>
#include <lowrank/io/safetensors.h>
#include <lowrank/weights/extract.h>
#include <torch/nn/modules/batchnorm.h>
#include <torch/nn/modules/conv.h>
#include <torch/nn/modules/embedding.h>
#include <torch/nn/modules/linear.h>
#include <torch/nn/modules/normalization.h>

#include <string>

#include "linalg/spectral_norm.h"
#include "support/expect_error.h"
#include "support/orthonormal.h"
#include "support/temporary_folder.h"

namespace lowrank {
namespace {

namespace nn = torch::nn;

struct Extracted : nn::Module {
  nn::Embedding wte = register_module("wte", nn::Embedding(11, 6));
  nn::Conv2d conv = register_module("conv", nn::Conv2d(nn::Conv2dOptions(6, 9, {2, 1})));
  nn::Linear linear = register_module("linear", nn::Linear(9, 20));
  nn::Linear same = register_module("same", nn::Linear(9, 20));
  nn::LayerNorm norm = register_module("norm", nn::LayerNorm(nn::LayerNormOptions({20})));
};

class ExtractAdapter : public ::testing::Test {
 protected:
  void SetUp() override {
    at::manual_seed(0);
    base_ = std::make_shared<Extracted>();
    tuned_ = std::make_shared<Extracted>();
    base_->to(at::kDouble);
    tuned_->to(at::kDouble);
    const at::NoGradGuard no_grad;
    copy(*base_, *tuned_);
    tuned_->conv->weight += product(9, 2, 12).view({9, 6, 2, 1});
    tuned_->linear->weight += product(20, 3, 9);
  }
  static at::Tensor product(int64_t rows, int64_t rank, int64_t columns) {
    return at::randn({rows, rank}, at::kDouble).mm(at::randn({rank, columns}, at::kDouble));
  }
  static void copy(const Extracted& from, const Extracted& to) {
    const at::NoGradGuard no_grad;
    for (const auto& item : from.named_parameters()) {
      to.named_parameters()[item.key()].copy_(item.value());
    }
  }
  std::string save(const Extracted& net, const std::string& name) const {
    std::vector<SafetensorsEntry> entries;
    for (const auto& item : net.named_parameters()) entries.push_back({item.key(), item.value()});
    write_safetensors(folder_ / name, entries);
    return (folder_ / name).string();
  }
  WeightsReport extract(const ExtractOptions& options) const {
    return extract_adapter(Checkpoint::open(save(*base_, "base.safetensors")),
                           Checkpoint::open(save(*tuned_, "tuned.safetensors")), folder_ / "a",
                           options);
  }
  /// Loads the adapter on the base, merges it, and returns how far it is from the tuned model.
  double distance() const {
    Extracted net;
    net.to(at::kDouble);
    copy(*base_, net);
    auto loaded = load_adapter(net, folder_ / "a");
    loaded.adapter.merge();
    double squares = 0;
    for (const auto& item : tuned_->named_parameters()) {
      auto own = net.named_parameters()[item.key()].detach();
      const auto whole = loaded.adapter.named_parameters();
      for (const auto& [name, tensor] : whole) {
        if (name == item.key()) own = tensor.detach();
      }
      squares += std::pow(norm_of(own - item.value()), 2);
    }
    return std::sqrt(squares);
  }

  const TemporaryFolder folder_;
  std::shared_ptr<Extracted> base_, tuned_;
};

TEST_F(ExtractAdapter, FindsTheDifference) {
  const auto report = extract({.rule = RankRule::max_error(1e-9), .dtype = at::kDouble});
  ASSERT_EQ(report.layers.size(), 2);
  EXPECT_EQ(report.layers[0].name, "conv");
  EXPECT_EQ(report.layers[0].rank, 2);
  EXPECT_EQ(report.layers[0].columns, 12);
  EXPECT_EQ(report.layers[1].rank, 3);
  EXPECT_EQ(report.unchanged, 7);
  EXPECT_EQ(inspect_adapter(folder_ / "a").base_sha256, base_fingerprint(*base_));
  EXPECT_LE(report.relative(), 1e-12);
  EXPECT_LE(distance(), 1e-11);
}

/// Against the SVD of the dense difference.
TEST_F(ExtractAdapter, TellsItsErrorAfterRounding) {
  const auto report = extract({.rule = RankRule::at_most(1), .dtype = at::kFloat});
  for (const auto& layer : report.layers) {
    const auto name = layer.name + ".weight";
    const auto delta =
        (tuned_->named_parameters()[name] - base_->named_parameters()[name]).flatten(1);
    const auto s = at::linalg_svdvals(delta);
    EXPECT_NEAR(layer.norm, norm_of(delta), 1e-12 * norm_of(delta));
    EXPECT_NEAR(layer.frobenius, norm_of(s.narrow(0, 1, s.size(0) - 1)), 1e-6 * norm_of(delta));
    EXPECT_NEAR(layer.spectral, s[1].item<double>(), 1e-6 * norm_of(delta));
  }
  EXPECT_NEAR(distance(), report.frobenius(), 1e-5);
}

TEST_F(ExtractAdapter, SharesABudgetAmongTheLayers) {
  using Ranks = std::pair<int64_t, int64_t>;
  // conv (9, 12) and linear (20, 9): 21 and 29 parameters a rank.
  const auto ranks = [&](int64_t budget, const RankRule& rule = RankRule::numerical()) {
    const auto report =
        extract({.rule = rule, .budget = budget, .dtype = at::kDouble, .force = true});
    EXPECT_LE(report.parameters(), budget);
    return Ranks(report.layers[0].rank, report.layers[1].rank);
  };
  EXPECT_EQ(ranks(50), Ranks(1, 1));
  const auto delta = [&](const char* name) {
    const auto change = tuned_->named_parameters()[name] - base_->named_parameters()[name];
    return at::linalg_svdvals(change.detach().flatten(1)).pow(2);
  };
  const double conv = delta("conv.weight")[1].item<double>() / 21;
  const double linear = delta("linear.weight")[1].item<double>() / 29;
  EXPECT_EQ(ranks(79), conv > linear ? Ranks(2, 1) : Ranks(1, 2));
  EXPECT_EQ(ranks(129), Ranks(2, 3));
  EXPECT_EQ(ranks(1'000'000, RankRule::numerical().within(1, 2)), Ranks(2, 2));
  EXPECT_EQ(ranks(1'000'000, RankRule::numerical().within(4, 4)), Ranks(4, 4));
  LOWRANK_EXPECT_ERROR(extract({.budget = 49, .force = true}), ArgumentError,
                       "the least rank of each layer, 50 parameters. Got 49.");
}

TEST_F(ExtractAdapter, PutsTheSingularValuesWhereTheyAreWanted) {
  for (const auto split : {SplitScale::kBalanced, SplitScale::kB, SplitScale::kA}) {
    extract(
        {.rule = RankRule::max_error(1e-9), .split = split, .dtype = at::kDouble, .force = true});
    EXPECT_LE(distance(), 1e-11);
    const auto file = SafetensorsFile::open(folder_ / "a" / "adapter_model.safetensors");
    const auto a = file.tensor("base_model.model.linear.lora_A.weight").norm(2, 1);
    const auto b = file.tensor("base_model.model.linear.lora_B.weight").norm(2, 0);
    const auto one = at::ones_like(a);
    EXPECT_EQ(at::allclose(a, one), split == SplitScale::kB);
    EXPECT_EQ(at::allclose(b, one), split == SplitScale::kA);
    EXPECT_EQ(at::allclose(a, b), split == SplitScale::kBalanced);
  }
}

TEST_F(ExtractAdapter, SavesWhatIsNoLayerWhole) {
  {
    const at::NoGradGuard no_grad;
    tuned_->norm->weight += 0.5;
    tuned_->wte->weight += 0.25;
    tuned_->linear->bias += 1;
  }
  const auto saved = extract({.rule = RankRule::at_most(3), .dtype = at::kDouble});
  EXPECT_EQ(saved.whole.size(), 3);
  EXPECT_TRUE(SafetensorsFile::open(folder_ / "a/adapter_model.safetensors")
                  .contains("base_model.model.linear.base_layer.bias"))
      << "PEFT wraps an adapted layer";
  EXPECT_LE(distance(), 1e-11);
  const auto skipped = extract({.rule = RankRule::at_most(3),
                                .whole = WholeTensors::kSkip,
                                .dtype = at::kDouble,
                                .force = true});
  EXPECT_EQ(skipped.skipped, saved.whole);
  EXPECT_GT(distance(), 1);
  LOWRANK_EXPECT_ERROR(extract({.whole = WholeTensors::kRefuse, .force = true}), FileError,
                       "only weights of layers must differ between the models. Got \"");
}

/// A layer of more than 2^24 numbers is computed in float32.
TEST_F(ExtractAdapter, SlowTakesALargeLayer) {
  const auto base = at::randn({4200, 4000}).to(at::kBFloat16);
  const auto delta = at::randn({4200, 3}).mm(at::randn({3, 4000})) / 8;
  const auto tuned = (base.to(at::kFloat) + delta).to(at::kBFloat16);
  write_safetensors(folder_ / "b.safetensors", {{"x.weight", base}});
  write_safetensors(folder_ / "t.safetensors", {{"x.weight", tuned}});
  const auto report = extract_adapter(Checkpoint::open(folder_ / "b.safetensors"),
                                      Checkpoint::open(folder_ / "t.safetensors"), folder_ / "a",
                                      {.rule = RankRule::at_most(3)});
  const auto file = SafetensorsFile::open(folder_ / "a/adapter_model.safetensors");
  const auto product = file.tensor("base_model.model.x.lora_B.weight")
                           .mm(file.tensor("base_model.model.x.lora_A.weight"));
  const auto exact = tuned.to(at::kDouble) - base.to(at::kDouble);
  const auto left = exact - product.to(at::kDouble);
  const auto& layer = report.layers[0];
  EXPECT_NEAR(layer.norm / norm_of(exact), 1, 1e-6);
  EXPECT_NEAR(layer.frobenius / norm_of(left), 1, 1e-6);
  EXPECT_LE(layer.frobenius, 1.01 * norm_of(exact - delta.to(at::kDouble)));
  EXPECT_NEAR(layer.spectral / lanczos_spectral_norm(left), 1, 1e-5);
}

/// Tokens were added: the table has more rows.
TEST_F(ExtractAdapter, SavesALongerTableWhole) {
  save(*base_, "base.safetensors");
  std::vector<SafetensorsEntry> entries;
  for (const auto& item : tuned_->named_parameters()) {
    const bool is_table = item.key() == "wte.weight";
    const auto more = at::randn({2, 6}, at::kDouble);
    const auto tensor = item.value().detach();
    entries.push_back({item.key(), is_table ? at::cat({tensor, more}) : tensor});
  }
  write_safetensors(folder_ / "longer.safetensors", entries);
  const auto report = extract_adapter(Checkpoint::open(folder_ / "base.safetensors"),
                                      Checkpoint::open(folder_ / "longer.safetensors"),
                                      folder_ / "a", {.rule = RankRule::at_most(3)});
  EXPECT_EQ(report.whole, std::vector<std::string>{"wte.weight"});
  EXPECT_EQ(report.whole_numbers, 13 * 6);
  const auto file = SafetensorsFile::open(folder_ / "a/adapter_model.safetensors");
  EXPECT_EQ(file.tensor("base_model.model.wte.weight").size(0), 13);
}

TEST_F(ExtractAdapter, LeavesOutWhatIsEmpty) {
  write_safetensors(folder_ / "b.safetensors",
                    {{"e.weight", at::zeros({0, 4})}, {"x.weight", at::zeros({5, 4})}});
  write_safetensors(folder_ / "t.safetensors",
                    {{"e.weight", at::zeros({0, 4}, at::kHalf)}, {"x.weight", at::ones({5, 4})}});
  for (const auto budget : {std::optional<int64_t>(), std::optional<int64_t>(9)}) {
    const auto report = extract_adapter(Checkpoint::open(folder_ / "b.safetensors"),
                                        Checkpoint::open(folder_ / "t.safetensors"), folder_ / "a",
                                        {.rule = RankRule::at_most(1),
                                         .budget = budget,
                                         .whole = WholeTensors::kSkip,
                                         .force = true});
    ASSERT_EQ(report.layers.size(), 1);
    EXPECT_EQ(report.layers[0].name, "x");
  }
}

/// As after a kill: one layer is finished, and its journal says so.
TEST_F(ExtractAdapter, GoesOnAfterAKill) {
  const ExtractOptions options = {.rule = RankRule::at_most(2), .dtype = at::kDouble};
  extract(options);
  const auto whole = read_bytes(folder_ / "a/adapter_model.safetensors");
  std::filesystem::remove_all(folder_ / "a");
  auto stopping = options;
  const auto left = folder_ / ".a.unfinished";
  stopping.on_layer = [&](const std::string& /*name*/, int64_t place, int64_t /*count*/) {
    if (place == 0) return;
    std::filesystem::copy(left, folder_ / "copy");
    throw std::runtime_error("stopped");
  };
  EXPECT_THROW(extract(stopping), std::runtime_error);
  EXPECT_FALSE(std::filesystem::exists(left));
  for (const bool is_damaged : {false, true}) {
    std::filesystem::copy(folder_ / "copy", left);
    const auto layer = left / "layer-000000.safetensors";
    ASSERT_TRUE(std::filesystem::exists(layer));
    if (is_damaged) folder_.write(".a.unfinished/layer-000000.safetensors", "damaged");
    const auto report = extract_adapter(
        Checkpoint::open(folder_ / "base.safetensors"),
        Checkpoint::open(folder_ / "tuned.safetensors"), folder_ / "a",
        {.rule = RankRule::at_most(2), .dtype = at::kDouble, .force = true, .resume = true});
    EXPECT_EQ(report.layers.size(), 2);
    EXPECT_GT(report.layers[0].frobenius, 0);
    EXPECT_EQ(read_bytes(folder_ / "a/adapter_model.safetensors"), whole);
    EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder_ / "a"),
                            std::filesystem::directory_iterator()),
              3);
  }
  std::filesystem::copy(folder_ / "copy", left);
  LOWRANK_EXPECT_ERROR(
      extract_adapter(Checkpoint::open(folder_ / "base.safetensors"),
                      Checkpoint::open(folder_ / "tuned.safetensors"), folder_ / "a",
                      {.rule = RankRule::at_most(1), .force = true, .resume = true}),
      FileError, "Got other inputs or options.");
}

/// "head" in target_modules would also mean "deep.head", which did not change.
TEST_F(ExtractAdapter, NamesTheLayersThatChangedAlone) {
  struct Deep : nn::Module {
    nn::Linear head = register_module("head", nn::Linear(4, 5));
  };
  struct Nested : nn::Module {
    nn::Linear head = register_module("head", nn::Linear(4, 5));
    std::shared_ptr<Deep> deep = register_module("deep", std::make_shared<Deep>());
  };
  Nested net;
  const auto entries = [&](double change) {
    std::vector<SafetensorsEntry> list;
    for (const auto& item : net.named_parameters()) {
      const bool is_changed = item.key() == "head.weight";
      list.push_back({item.key(), item.value().detach() + (is_changed ? change : 0)});
    }
    return list;
  };
  write_safetensors(folder_ / "b.safetensors", entries(0));
  write_safetensors(folder_ / "t.safetensors", entries(0.5));
  extract_adapter(Checkpoint::open(folder_ / "b.safetensors"),
                  Checkpoint::open(folder_ / "t.safetensors"), folder_ / "a",
                  {.rule = RankRule::at_most(1)});
  const auto layers = load_adapter(net, folder_ / "a").adapter.layers();
  ASSERT_EQ(layers.size(), 1);
  EXPECT_EQ(layers[0].name, "head");
  EXPECT_LE(norm_of(delta_weight(layers[0]) - 0.5), 1e-6);
}

TEST_F(ExtractAdapter, TakesTransposedWeights) {
  const auto w = at::randn({6, 10}, at::kDouble);
  const auto delta = at::randn({6, 2}, at::kDouble).mm(at::randn({2, 10}, at::kDouble));
  write_safetensors(folder_ / "b.safetensors", {{"h.0.c_attn.weight", w}});
  write_safetensors(folder_ / "t.safetensors", {{"h.0.c_attn.weight", w + delta}});
  extract_adapter(Checkpoint::open(folder_ / "b.safetensors"),
                  Checkpoint::open(folder_ / "t.safetensors"), folder_ / "a",
                  {.rule = RankRule::at_most(2), .dtype = at::kDouble, .fan_in_fan_out = true});
  const auto file = SafetensorsFile::open(folder_ / "a/adapter_model.safetensors");
  const std::string prefix = "base_model.model.h.0.c_attn.";
  const auto product =
      file.tensor(prefix + "lora_B.weight").mm(file.tensor(prefix + "lora_A.weight"));
  EXPECT_LE(norm_of(product.t() - delta), 1e-12 * norm_of(delta));
}

TEST_F(ExtractAdapter, RefusesModelsThatAreNoPair) {
  const auto base = Checkpoint::open(save(*base_, "base.safetensors"));
  const auto refused = [&](const std::vector<SafetensorsEntry>& entries,
                           const std::string& message) {
    write_safetensors(folder_ / "other.safetensors", entries);
    LOWRANK_EXPECT_ERROR(
        extract_adapter(base, Checkpoint::open(folder_ / "other.safetensors"), folder_ / "a", {}),
        FileError, message);
    EXPECT_FALSE(std::filesystem::exists(folder_ / "a"));
  };
  refused({{"linear.weight", at::zeros({20, 9})}}, "8 in \"");
  std::vector<SafetensorsEntry> entries;
  for (const auto& item : base_->named_parameters()) {
    entries.push_back({item.key(), item.value().detach().clone()});
  }
  refused(entries, "a layer's weight must differ between the models. Got equal models.");
  for (auto& entry : entries) {
    if (entry.name == "linear.weight") entry.tensor[3][4] = std::nan("");
  }
  write_safetensors(folder_ / "other.safetensors", entries);
  LOWRANK_EXPECT_ERROR(
      extract_adapter(base, Checkpoint::open(folder_ / "other.safetensors"), folder_ / "a", {}),
      TensorError, "\"linear.weight\" of the tuned model must hold only finite numbers. Got 1 NaN");
  EXPECT_FALSE(std::filesystem::exists(folder_ / "a"));
  entries[0].tensor = at::zeros({10, 6});
  refused(entries, "must have one shape in both models. Got (11, 6) and (10, 6).");
  entries.push_back({"more", at::zeros({1})});
  refused(entries, "1 in \"");
}

}  // namespace
}  // namespace lowrank
