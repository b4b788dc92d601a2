#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>
#include <lowrank/adapter/adapter.h>
#include <lowrank/error.h>
#include <torch/nn/modules/conv.h>
#include <torch/nn/modules/embedding.h>
#include <torch/nn/modules/linear.h>
#include <torch/nn/modules/normalization.h>
#include <torch/nn/pimpl.h>

#include <string>
#include <vector>

#include "support/dense_reference.h"
#include "support/expect_error.h"

// Mixed batches of adapters that train modules whole.
namespace lowrank {
namespace {

namespace nn = torch::nn;
using Names = std::vector<std::string>;

/// Maps tokens (N, T) to logits (N, 3).
struct Reader : nn::Module {
  nn::Embedding embed = register_module("embed", nn::Embedding(9, 6));
  nn::Conv1d conv = register_module("conv", nn::Conv1d(nn::Conv1dOptions(6, 4, 3).padding(1)));
  nn::Linear body = register_module("body", nn::Linear(4, 4));
  nn::LayerNorm norm = register_module("norm", nn::LayerNorm(nn::LayerNormOptions({4})));
  nn::Linear head = register_module("head", nn::Linear(4, 3));
  at::Tensor forward(const at::Tensor& tokens) {
    const auto x = conv(embed(tokens).transpose(1, 2)).tanh().transpose(1, 2);
    return head(norm(body(x)).mean(1));
  }
};

class MixedBatch : public testing::Test {
 protected:
  at::Tensor output() {
    const at::NoGradGuard no_grad;
    return model_.forward(tokens_);
  }
  /// Returns the output of each row computed by itself.
  at::Tensor separate(const Adapter& adapter, const Names& names) {
    std::vector<at::Tensor> rows;
    for (size_t i = 0; i < names.size(); ++i) {
      const auto use = adapter.use(names[i].empty() ? Names() : Names{names[i]});
      rows.push_back(output()[static_cast<int64_t>(i)]);
    }
    return at::stack(rows);
  }

  Reader model_;
  at::Tensor tokens_ = at::randint(0, 9, {5, 7}, at::kLong);
};

TEST_F(MixedBatch, TakesWholeModulesRowByRow) {
  auto adapter = attach(model_, {.rank = 2, .target_modules = {"body"}}, "factors");
  adapter.add("head", {.rank = 2, .target_modules = {"body"}, .modules_to_save = {"head"}});
  adapter.add("most", {.rank = 2,
                       .target_modules = {"body"},
                       .modules_to_save = {"embed", "conv", "head"},
                       .bias = BiasMode::kLoraOnly});
  adapter.add(
      "rows",
      {.rank = 2, .target_modules = {"head"}, .trainable_token_indices = {{"embed", {0, 4, 7}}}});
  // This adapter has factors where another one trains a whole module.
  adapter.add("layers", {.rank = 2, .target_modules = {"embed", "conv", "head"}});
  for (const auto& name : adapter.names()) randomize(adapter, name);
  for (const auto& names :
       {Names{"head", "factors", "", "most", "head"},
        Names{"most", "rows", "rows", "layers", "head"}, Names{"most", "most", "", "", "most"}}) {
    const auto expected = separate(adapter, names);
    const auto rows = adapter.use_rows(names);
    EXPECT_LE(relative_error(output(), expected), 1e-6) << names[0] << ", " << names[1];
  }
}

TEST_F(MixedBatch, RefusesWhatNoRowCanBeTakenOutOf) {
  auto adapter = attach(model_, {.target_modules = {"body"}, .modules_to_save = {"norm"}}, "one");
  randomize(adapter);
  const auto rows = adapter.use_rows({"one", "", "", "one", ""});
  LOWRANK_EXPECT_ERROR(output(), TensorError,
                       "[mixed batch] \"norm.weight\" must be read by a linear layer, a "
                       "convolution or an embedding");
}

}  // namespace
}  // namespace lowrank
