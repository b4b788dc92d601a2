// Covers an embedding and a head that share one weight: src/effective and src/adapter.

#include <gtest/gtest.h>
#include <lowrank/error.h>
#include <torch/nn/modules/embedding.h>
#include <torch/nn/modules/linear.h>

#include "support/dense_reference.h"
#include "support/expect_error.h"

// An embedding and an output head that share one weight have separate adapters, as in PEFT: their
// operators tell them apart.
namespace lowrank {
namespace {

struct Tied : torch::nn::Module {
  torch::nn::Embedding embed{nullptr};
  torch::nn::Linear head{nullptr};
  Tied() {
    embed = register_module("embed", torch::nn::Embedding(9, 6));
    head = register_module("head", torch::nn::Linear(torch::nn::LinearOptions(6, 9).bias(false)));
    head->weight = embed->weight;
  }
};

class TiedWeights : public testing::Test {
 protected:
  TiedWeights() {
    at::manual_seed(1);
    ids_ = at::randint(0, 9, {4}, at::kLong);
    x_ = at::randn({5, 6});
    rows_ = net_.embed->forward(ids_).detach();
    logits_ = net_.head->forward(x_).detach();
  }

  Adapter adapt(LoraConfig config) {
    config.rank = 2;
    auto adapter = attach(net_, config);
    randomize(adapter);
    return adapter;
  }
  /// The part of each output that the adapters add to the base's.
  at::Tensor on_rows() { return net_.embed->forward(ids_).detach() - rows_; }
  at::Tensor on_logits() { return net_.head->forward(x_).detach() - logits_; }
  at::Tensor delta_of(const AdaptedLayer& layer) const {
    return dense_delta(layer, layer.name == "embed").to(at::kFloat);
  }

  Tied net_;
  at::Tensor ids_, x_, rows_, logits_;
};

TEST_F(TiedWeights, AnEmbeddingsAdapterLeavesTheHeadAlone) {
  const auto adapter = adapt({.target_modules = {"embed"}});
  EXPECT_LE(relative_error(on_rows(), delta_of(adapter.layers()[0]).index_select(0, ids_)), 1e-5);
  EXPECT_TRUE(at::equal(net_.head->forward(x_), logits_));
  EXPECT_TRUE(at::equal(x_.mm(net_.head->weight.t()), logits_));
}

TEST_F(TiedWeights, AHeadsAdapterLeavesTheEmbeddingAlone) {
  const auto adapter = adapt({.target_modules = {"head"}});
  EXPECT_LE(relative_error(on_logits(), x_.mm(delta_of(adapter.layers()[0]).t())), 1e-5);
  EXPECT_TRUE(at::equal(net_.embed->forward(ids_), rows_));
}

TEST_F(TiedWeights, TakeTwoDifferentAdapters) {
  const auto adapter = adapt({.target_modules = {"embed", "head"}});
  const auto layers = adapter.layers();
  EXPECT_LE(relative_error(on_rows(), delta_of(layers[0]).index_select(0, ids_)), 1e-5);
  EXPECT_LE(relative_error(on_logits(), x_.mm(delta_of(layers[1]).t())), 1e-5);
}

TEST_F(TiedWeights, AreNotMerged) {
  for (const auto* layer : {"embed", "head"}) {
    auto adapter = adapt({.target_modules = {layer}});
    LOWRANK_EXPECT_ERROR(adapter.merge(), TensorError,
                         "[merge] a weight must belong to one layer to be merged into. Got "
                         "\"embed\" and \"head\", which share it. Give one of them a clone");
    EXPECT_FALSE(adapter.merged());
    adapter.detach();
    EXPECT_TRUE(at::equal(net_.embed->forward(ids_), rows_));
    EXPECT_TRUE(at::equal(net_.head->forward(x_), logits_));
  }
}

TEST_F(TiedWeights, AHeadThatIsTrainedWholeLeavesTheEmbeddingAlone) {
  const auto adapter = adapt({.target_modules = {"embed"}, .modules_to_save = {"head"}});
  EXPECT_LE(relative_error(on_rows(), delta_of(adapter.layers()[0]).index_select(0, ids_)), 1e-5);
  EXPECT_FALSE(at::equal(net_.head->forward(x_), logits_));
}

TEST_F(TiedWeights, TrainedRowsAreTheEmbeddingsOwn) {
  const auto adapter =
      adapt({.target_modules = {"head"}, .trainable_token_indices = {{"embed", {1, 4}}}});
  ids_ = at::tensor({0, 1, 4}, at::kLong);
  const auto found = net_.embed->forward(ids_).detach();
  const DisableAdapter off(adapter);
  const auto rows = net_.embed->forward(ids_).detach();
  EXPECT_TRUE(at::equal(found[0], rows[0]));
  EXPECT_FALSE(at::equal(found[1], rows[1]));
  EXPECT_FALSE(at::equal(found[2], rows[2]));
}

TEST_F(TiedWeights, AHeadBesideTrainedRowsHasItsOwnAdapterAlone) {
  const auto adapter =
      adapt({.target_modules = {"head"}, .trainable_token_indices = {{"embed", {1, 4}}}});
  EXPECT_LE(relative_error(on_logits(), x_.mm(delta_of(adapter.layers()[0]).t())), 1e-5);
}

}  // namespace
}  // namespace lowrank
