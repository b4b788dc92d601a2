#include <gtest/gtest.h>
#include <lowrank/error.h>
#include <torch/nn/modules/container/sequential.h>
#include <torch/nn/modules/conv.h>
#include <torch/nn/modules/embedding.h>
#include <torch/nn/modules/linear.h>

#include <cmath>
#include <limits>
#include <random>
#include <set>

#include "app/models/mlp.h"
#include "support/dense_reference.h"
#include "support/expect_error.h"

namespace lowrank {
namespace {

using app::Mlp;
using app::MlpOptions;

/// Five adapters on a small net.
class Merge : public testing::Test {
 protected:
  void make(at::ScalarType dtype) {
    at::manual_seed(2);
    model_ = Mlp(MlpOptions{.sizes = {8, 6, 3}});
    model_->to(dtype);
    for (const auto& item : model_->named_parameters()) base_.push_back(item.value().clone());
    adapter_ = std::make_unique<Adapter>(attach(*model_, {.rank = 2, .alpha = 3}, "a0"));
    for (const auto* name : {"a1", "a2", "a3", "a4"}) adapter_->add(name, {.rank = 3, .alpha = 1});
    for (const auto& name : adapter_->names()) randomize(*adapter_, name);
  }

  /// Merges or unmerges at random a thousand times, and ends unmerged.
  void shuffle(const MergeOptions& options) {
    std::mt19937 random(3);
    std::set<std::string> merged;
    for (int i = 0; i < 1000; ++i) {
      const auto name = "a" + std::to_string(random() % 5);
      if (merged.erase(name) > 0) {
        adapter_->unmerge({name});
      } else {
        adapter_->merge({name}, options);
        merged.insert(name);
      }
    }
    if (!merged.empty()) adapter_->unmerge();
    EXPECT_FALSE(adapter_->merged());
  }

  /// Returns max |W - W before| / max |W|.
  double drift() const {
    const DisableAdapter off(*adapter_);
    double worst = 0;
    size_t i = 0;
    for (const auto& item : model_->named_parameters()) {
      const auto now = item.value().detach().to(at::kDouble) + 0;
      const auto before = base_[i++].detach().to(at::kDouble);
      worst = std::max(worst, ((now - before).abs().max() / before.abs().max()).item<double>());
    }
    return worst;
  }

  Mlp model_{nullptr};
  std::vector<at::Tensor> base_;
  std::unique_ptr<Adapter> adapter_;
};

TEST_F(Merge, RestoresTheBaseBitForBitFromCopies) {
  for (const auto dtype : {at::kFloat, at::kBFloat16}) {
    base_.clear();
    make(dtype);
    shuffle({});
    EXPECT_EQ(drift(), 0) << c10::toString(dtype);
  }
}

TEST_F(Merge, DriftsByRoundingWithoutCopies) {
  for (const auto dtype : {at::kFloat, at::kBFloat16}) {
    base_.clear();
    make(dtype);
    shuffle({.keep_copies = false});
    const double eps = dtype == at::kFloat ? std::numeric_limits<float>::epsilon() : 0.0078125;
    const double found = drift();
    RecordProperty(c10::toString(dtype), std::to_string(found / eps) + " eps");
    EXPECT_LE(found, 1000 * eps) << c10::toString(dtype);
    EXPECT_GT(found, 0) << "no copy was kept";
  }
}

TEST_F(Merge, AgreesWithTheFactorsAndTellsWhatItChanged) {
  make(at::kFloat);
  adapter_->set_active({"a0", "a2"});
  const at::NoGradGuard no_grad;
  const auto x = at::randn({4, 8});
  const auto expected = model_->forward(x);
  const auto report = adapter_->merge();
  EXPECT_LE(relative_error(model_->forward(x), expected), 1e-5);
  ASSERT_EQ(report.size(), 2);
  const auto delta =
      dense_delta(adapter_->layers("a0")[0], false) + dense_delta(adapter_->layers("a2")[0], false);
  EXPECT_EQ(report[0].name, "linear1");
  EXPECT_NEAR(report[0].largest_change, delta.abs().max().item<double>(), 1e-6);
  EXPECT_GT(report[0].rounding_error, 0);
  EXPECT_LT(report[0].rounding_error, 1e-6);
  adapter_->set_active({"a2"});
  adapter_->unmerge({"a0"});
  EXPECT_TRUE(adapter_->merged()) << "a2 still is";
  adapter_->unmerge();
  EXPECT_EQ(drift(), 0);
}

TEST_F(Merge, RefusesBeforeAnythingChanges) {
  make(at::kFloat);
  {
    const at::NoGradGuard no_grad;
    adapter_->layers("a1")[1].b[0][0] = std::numeric_limits<double>::quiet_NaN();
  }
  LOWRANK_EXPECT_ERROR(adapter_->merge({"a0", "a1"}), TensorError,
                       "W + s·B·A must be finite in every layer. Got NaN or Inf in \"linear2\". "
                       "Nothing was changed.");
  EXPECT_FALSE(adapter_->merged());
  EXPECT_EQ(drift(), 0);
  adapter_->merge({"a0"});
  LOWRANK_EXPECT_ERROR(adapter_->merge({"a0"}), TensorError, "Got \"a0\", which is.");
  LOWRANK_EXPECT_ERROR(adapter_->unmerge({"a2"}), TensorError, "Got \"a2\", which is not.");
  LOWRANK_EXPECT_ERROR(adapter_->remove("a0"), TensorError, "must not be merged");
  LOWRANK_EXPECT_ERROR((void)adapter_->use("a0"), TensorError, "must not be merged");
  LOWRANK_EXPECT_ERROR(DisableAdapter{*adapter_}, TensorError, "must not be merged");
  LOWRANK_EXPECT_ERROR(adapter_->set_scale("a0", 2), TensorError, "must not be merged");
  adapter_->unmerge();
  LOWRANK_EXPECT_ERROR(adapter_->unmerge(), TensorError, "must be merged");
  adapter_->add("dora", {.rank = 2, .use_dora = true});
  LOWRANK_EXPECT_ERROR(adapter_->merge({"dora"}, {.keep_copies = false}), ArgumentError,
                       "DoRA must be merged with copies");
}

/// Compares the merge of factors in one pass, for every form of a weight, with float64.
TEST(MergeInOnePass, AgreesWithTheDefinitionInEveryForm) {
  at::manual_seed(4);
  const at::NoGradGuard no_grad;
  torch::nn::Sequential model(torch::nn::Linear(9, 7), torch::nn::Embedding(11, 5),
                              torch::nn::Conv2d(torch::nn::Conv2dOptions(4, 6, 3)),
                              torch::nn::Conv1d(torch::nn::Conv1dOptions(3, 8, 2)));
  std::vector<at::Tensor> base;
  for (const auto& parameter : model->parameters()) base.push_back(parameter.clone());
  auto adapter =
      attach(*model, {.rank = 3, .alpha = 5, .target_modules = {"0", "1", "2", "3"}}, "one");
  adapter.add("two", {.rank = 2, .alpha = 7, .target_modules = {"0", "1", "2", "3"}});
  for (const auto& name : adapter.names()) randomize(adapter, name);
  for (const bool copies : {true, false}) {
    const auto report = adapter.merge({"one", "two"}, {.keep_copies = copies});
    ASSERT_EQ(report.size(), 4);
    for (size_t i = 0; i < 4; ++i) {
      const auto layer = adapter.layers("one")[i];
      const auto delta = dense_delta(layer, i == 1) + dense_delta(adapter.layers("two")[i], i == 1);
      const auto found = layer.weight.detach().to(at::kDouble);
      size_t at = 0;
      while (model->named_parameters().keys()[at] != layer.parameter) ++at;
      const auto expected = base[at].to(at::kDouble) + delta.reshape(found.sizes());
      EXPECT_LT((found - expected).abs().max().item<double>(), 1e-5) << layer.name;
      EXPECT_NEAR(report[i].largest_change, delta.abs().max().item<double>(), 1e-5);
    }
    adapter.unmerge();
    const DisableAdapter off(adapter);
    for (size_t i = 0; i < base.size(); ++i) {
      const auto drift = (model->parameters()[i].detach() - base[i]).abs().max().item<double>();
      EXPECT_LE(drift, copies ? 0 : 1e-5) << i;
    }
  }
}

/// The weight has gaps between its rows; its copy has none.
TEST(MergeInOnePass, KeepsToTheRowsOfAWeightWithGaps) {
  at::manual_seed(5);
  const at::NoGradGuard no_grad;
  torch::nn::Linear model(8, 6);
  const auto memory = at::randn({6, 11});
  model->weight.set_data(memory.narrow(1, 0, 8));
  const auto before = memory.clone();
  auto adapter = attach(*model, {.rank = 2, .alpha = 3}, "one");
  adapter.add("two", {.rank = 2, .alpha = 3});
  for (const auto& name : adapter.names()) randomize(adapter, name);
  auto expected = before.to(at::kDouble);
  for (const auto& name : adapter.names()) {
    expected.narrow(1, 0, 8) += dense_delta(adapter.layers(name)[0], false);
    adapter.merge({name});
  }
  EXPECT_LT((memory - expected).abs().max().item<double>(), 1e-5);
  adapter.unmerge({"one"});
  adapter.unmerge({"two"});
  EXPECT_TRUE(at::equal(memory, before));
}

/// The copies have the dtype that the weights had before the conversion.
TEST(MergeInOnePass, GoesOnAfterAConversion) {
  at::manual_seed(6);
  const at::NoGradGuard no_grad;
  torch::nn::Linear model(8, 6);
  const auto base = model->weight.to(at::kDouble);
  auto adapter = attach(*model, {.rank = 2, .alpha = 3}, "one");
  adapter.add("two", {.rank = 2, .alpha = 3});
  for (const auto& name : adapter.names()) randomize(adapter, name);
  const auto delta = [&](const std::string& name) {
    return dense_delta(adapter.layers(name)[0], false);
  };
  const auto in_weight = [&] {
    adapter.disable();
    const auto weight = (model->weight + 0).to(at::kDouble);
    adapter.enable();
    return weight;
  };
  adapter.merge({"one"});
  model->to(at::kDouble);
  adapter.merge({"two"});
  EXPECT_LT((in_weight() - base - delta("one") - delta("two")).abs().max().item<double>(), 1e-5);
  adapter.unmerge({"one"});
  EXPECT_LT((in_weight() - base - delta("two")).abs().max().item<double>(), 1e-5);
  adapter.unmerge();
  EXPECT_TRUE(at::equal(in_weight(), base));
}

/// The factors' shapes must not be trusted for the size of the weight's memory.
TEST(MergeInOnePass, RefusesAWeightThatWasReplacedByASmallerOne) {
  const at::NoGradGuard no_grad;
  torch::nn::Linear model(8, 6);
  auto adapter = attach(*model, {.rank = 2, .alpha = 3});
  randomize(adapter);
  const auto memory = at::zeros({6, 8});
  model->weight.set_data(memory.narrow(0, 0, 2));
  EXPECT_ANY_THROW(adapter.merge());
  EXPECT_FALSE(adapter.merged());
  EXPECT_EQ(memory.abs().max().item<float>(), 0);
}

/// If the largest number of W and the largest of the change cannot rule out an overflow, each
/// number is checked.
TEST(MergeInOnePass, LooksAtEachNumberNearTheLargest) {
  const at::NoGradGuard no_grad;
  torch::nn::Linear model(2, 2);
  model->weight.copy_(at::tensor({3e38, 0.0, 0.0, 0.0}).view({2, 2}));
  auto adapter = attach(*model, {.rank = 1, .alpha = 1});
  const auto layer = adapter.layers()[0];
  layer.a.copy_(at::tensor({0.0, 1.0}).view({1, 2}));
  layer.b.copy_(at::tensor({2e38, 2e38}).view({2, 1}));
  adapter.merge();  // adds 2e38 to the zero beside the 3e38
  EXPECT_EQ(model->weight[0][0].item<float>(), 3e38F);
  EXPECT_EQ(model->weight[1][1].item<float>(), 2e38F);
  adapter.unmerge();
  layer.a.copy_(at::tensor({1.0, 1.0}).view({1, 2}));
  LOWRANK_EXPECT_ERROR(adapter.merge(), TensorError, "must be finite in every layer");
  const DisableAdapter off(adapter);
  EXPECT_EQ(model->weight[1][1].item<float>(), 0);
}

}  // namespace
}  // namespace lowrank
