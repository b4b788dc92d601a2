// Covers src/effective/ops with every kind of layer.

#include <gtest/gtest.h>
#include <lowrank/error.h>
#include <torch/nn/modules/activation.h>
#include <torch/nn/modules/container/sequential.h>
#include <torch/nn/modules/conv.h>
#include <torch/nn/modules/embedding.h>
#include <torch/nn/modules/linear.h>
#include <torch/nn/modules/rnn.h>
#include <torch/nn/modules/transformerlayer.h>

#include "support/dense_reference.h"
#include "support/expect_error.h"

// Every kind of layer, unmodified, is compared with itself on the dense weight.
namespace lowrank {
namespace {

namespace nn = torch::nn;

bool never(const AdaptedLayer& /*layer*/) { return false; }
bool always(const AdaptedLayer& /*layer*/) { return true; }

/// Adapts every weight of two or more dimensions of `module`, by name.
template <class Module>
Adapter adapt_all(Module& module) {
  std::vector<std::string> names;
  for (const auto& item : module->named_parameters()) {
    if (item.value().dim() >= 2) names.push_back(item.key());
  }
  auto adapter =
      attach(*module, {.rank = 2, .alpha = 1.4, .target_modules = ModuleSelector(names)});
  randomize(adapter);
  return adapter;
}

template <class Module>
LayerPath check(Module module, const std::function<at::Tensor(Module&)>& forward,
                const std::function<bool(const AdaptedLayer&)>& transposed = never) {
  auto adapter = adapt_all(module);
  expect_dense(
      *module, adapter, [&] { return forward(module); }, transposed);
  return adapter.layers().at(0).path;
}

at::Tensor tokens() { return at::randint(0, 20, {3, 4}, at::kLong); }

class Layers : public testing::Test {
 protected:
  Layers() {
    at::manual_seed(1);
    x_ = at::randn({5, 8});
    sequence_ = at::randn({3, 5, 8});
  }
  at::Tensor x_, sequence_;
};

TEST_F(Layers, LinearInAnyForm) {
  for (const bool bias : {true, false}) {
    for (const int64_t out : {6, 8}) {
      for (const auto& x : {x_, sequence_, x_[0], sequence_.unsqueeze(0)}) {
        const auto path = check<nn::Linear>(nn::Linear(nn::LinearOptions(8, out).bias(bias)),
                                            [&](auto& m) { return m(x); });
        EXPECT_EQ(path, LayerPath::kFactored);
      }
    }
  }
}

TEST_F(Layers, Convolutions) {
  const auto image = at::randn({2, 4, 9, 9});
  const auto signal = at::randn({2, 4, 9});
  const auto conv2d = [&](const nn::Conv2dOptions& options, const at::Tensor& x) {
    return check<nn::Conv2d>(nn::Conv2d(options), [&](auto& m) { return m(x); });
  };
  EXPECT_EQ(conv2d(nn::Conv2dOptions(4, 6, 3).padding(1), image), LayerPath::kFactored);
  EXPECT_EQ(conv2d(nn::Conv2dOptions(4, 6, {3, 2}).stride({2, 1}).bias(false), image),
            LayerPath::kFactored);
  EXPECT_EQ(conv2d(nn::Conv2dOptions(4, 6, 3).padding(torch::kSame).dilation(2), image),
            LayerPath::kFactored);
  EXPECT_EQ(conv2d(nn::Conv2dOptions(4, 6, 1), image[0]), LayerPath::kFactored)
      << "without a batch";
  EXPECT_EQ(conv2d(nn::Conv2dOptions(4, 6, 3).padding(1).padding_mode(torch::kReflect), image),
            LayerPath::kFactored);
  const auto path = check<nn::Conv1d>(
      nn::Conv1d(nn::Conv1dOptions(4, 6, 3).padding(1).padding_mode(torch::kCircular)),
      [&](auto& m) { return m(signal); });
  EXPECT_EQ(path, LayerPath::kFactored);
  const auto volume = at::randn({1, 2, 4, 5, 6});
  EXPECT_EQ(
      check<nn::Conv3d>(nn::Conv3d(nn::Conv3dOptions(2, 3, 2)), [&](auto& m) { return m(volume); }),
      LayerPath::kFactored);
}

/// A reads all channels, B only those of its group. So the factors add a full convolution with
/// block-wise products.
TEST_F(Layers, GroupedConvolution) {
  const auto image = at::randn({2, 4, 7, 7});
  nn::Conv2d module(nn::Conv2dOptions(4, 6, 3).padding(2).dilation(2).groups(2));
  auto adapter = attach(*module, {.rank = 4, .alpha = 2, .target_modules = {"weight"}});
  randomize(adapter);
  const auto layer = adapter.layers().at(0);
  ASSERT_EQ(layer.a.sizes(), (std::vector<int64_t>{4, 4, 3, 3}));
  ASSERT_EQ(layer.b.sizes(), (std::vector<int64_t>{6, 2, 1, 1}));
  const auto found = module(image);
  adapter.disable();
  const auto a = layer.a.to(at::kDouble), b = layer.b.to(at::kDouble);
  const auto delta = at::zeros({6, 4, 3, 3}, at::kDouble);
  for (int64_t out = 0; out < 6; ++out) {
    for (int64_t k = 0; k < 2; ++k) {
      delta[out] += 0.5 * b[out][k][0][0].item<double>() * a[out / 3 * 2 + k].detach();
    }
  }
  const auto expected =
      module(image).to(at::kDouble) +
      at::conv2d(image.to(at::kDouble), delta, {}, /*stride=*/1, /*padding=*/2, /*dilation=*/2);
  EXPECT_LE(relative_error(found, expected), 1e-5);
  LOWRANK_EXPECT_ERROR(adapter.merge(), TensorError, "the grouped convolution \"weight\"");
}

TEST_F(Layers, EmbeddingsAndBags) {
  const auto ids = tokens();
  EXPECT_EQ(check<nn::Embedding>(
                nn::Embedding(nn::EmbeddingOptions(20, 6).padding_idx(3)),
                [&](auto& m) { return m(ids); }, always),
            LayerPath::kFactored);
  EXPECT_EQ(check<nn::EmbeddingBag>(nn::EmbeddingBag(20, 6), [&](auto& m) { return m(ids); }),
            LayerPath::kDense);
}

TEST_F(Layers, RecurrentLayers) {
  for (const bool train : {true, false}) {
    nn::LSTM lstm(nn::LSTMOptions(8, 7).num_layers(2).bidirectional(true));
    lstm->train(train);
    check<nn::LSTM>(lstm, [&](auto& m) { return std::get<0>(m(sequence_)); });
  }
  check<nn::GRU>(nn::GRU(8, 7), [&](auto& m) { return std::get<0>(m(sequence_)); });
  check<nn::RNN>(nn::RNN(8, 7), [&](auto& m) { return std::get<0>(m(sequence_)); });
  check<nn::LSTMCell>(nn::LSTMCell(8, 7), [&](auto& m) { return std::get<0>(m(x_)); });
  check<nn::GRUCell>(nn::GRUCell(8, 7), [&](auto& m) { return m(x_); });
}

TEST_F(Layers, AttentionAndOthers) {
  const auto memory = at::randn({4, 5, 8});
  check<nn::MultiheadAttention>(nn::MultiheadAttention(8, 2), [&](auto& m) {
    return std::get<0>(m(sequence_, sequence_, sequence_));
  });
  check<nn::MultiheadAttention>(nn::MultiheadAttention(8, 2),
                                [&](auto& m) { return std::get<0>(m(sequence_, memory, memory)); });
  check<nn::TransformerEncoderLayer>(
      nn::TransformerEncoderLayer(
          nn::TransformerEncoderLayerOptions(8, 2).dim_feedforward(16).dropout(0)),
      [&](auto& m) { return m(sequence_); });
  check<nn::Bilinear>(nn::Bilinear(8, 8, 3), [&](auto& m) { return m(x_, x_); });
  const auto image = at::randn({2, 3, 7, 7});
  check<nn::ConvTranspose2d>(nn::ConvTranspose2d(nn::ConvTranspose2dOptions(3, 4, 3)),
                             [&](auto& m) { return m(image); });
}

}  // namespace
}  // namespace lowrank
