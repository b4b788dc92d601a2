#include <gtest/gtest.h>
#include <lowrank/error.h>
#include <torch/nn/modules/container/sequential.h>
#include <torch/nn/modules/conv.h>
#include <torch/nn/modules/embedding.h>
#include <torch/nn/modules/linear.h>
#include <torch/nn/modules/rnn.h>

#include "support/dense_reference.h"
#include "support/expect_error.h"
#include "support/tolerances.h"

// DoRA is compared with its definition in float64: W' = m V / ‖V‖ row by row with V = W + s·B·A,
// where backward takes the norm as constant (arXiv 2402.09353, equation 5 and section 4.3).
namespace lowrank {
namespace {

namespace nn = torch::nn;

constexpr double kMost = 1e-12;

/// A copy of one layer's trained tensors, with gradients of their own.
struct Trained {
  at::Tensor a, b, magnitude;
  double scaling;

  explicit Trained(const AdaptedLayer& layer)
      : a(leaf(layer.a)),
        b(leaf(layer.b)),
        magnitude(leaf(layer.magnitude)),
        scaling(layer.scaling) {}

  static at::Tensor leaf(const at::Tensor& tensor) {
    return tensor.detach().clone().requires_grad_();
  }

  /// Returns m / ‖V‖ (out), where `m` is W as a matrix (out, in).
  at::Tensor scale(const at::Tensor& m) const {
    return magnitude / v(m).detach().square().sum(1).sqrt();
  }
  at::Tensor v(const at::Tensor& m) const { return m + scaling * b.flatten(1).mm(a.flatten(1)); }
  /// Returns W', for W of (out, ...), or of (in, out) for `transposed`.
  at::Tensor weight(const at::Tensor& w, bool transposed) const {
    const auto m = transposed ? w.t() : w.flatten(1);
    const auto scaled = scale(m).unsqueeze(1) * v(m);
    return transposed ? scaled.t() : scaled.view(w.sizes());
  }
};

/// Compares the adapter's gradients with those of `expected`.
void expect_gradients(const Adapter& adapter, const Trained& expected) {
  const auto layer = adapter.layers().at(0);
  EXPECT_LE(relative_error(layer.a.grad(), expected.a.grad()), kMost);
  EXPECT_LE(relative_error(layer.b.grad(), expected.b.grad()), kMost);
  EXPECT_LE(relative_error(layer.magnitude.grad(), expected.magnitude.grad()), kMost);
}

using Forward = std::function<at::Tensor()>;
using DenseForward = std::function<at::Tensor(const at::Tensor& weight)>;

/// Adapts `parameter` of a module. Checks that the output starts as the base's, bit for bit, and
/// that with random factors and magnitudes, `forward` agrees with `dense` on W'.
LayerPath expect_definition(nn::Module& module, const std::string& parameter,
                            const Forward& forward, const DenseForward& dense,
                            bool transposed = false) {
  const auto w = module.named_parameters()[parameter].detach().clone();
  const auto base = forward().detach();
  auto adapter =
      attach(module, {.rank = 2, .alpha = 3, .target_modules = {parameter}, .use_dora = true});
  EXPECT_TRUE(at::equal(forward().detach(), base)) << "the initial magnitude changes the output";
  randomize(adapter);

  const Trained expected(adapter.layers().at(0));
  const auto y = forward();
  const auto dense_y = dense(expected.weight(w, transposed));
  EXPECT_LE(relative_error(y.detach(), dense_y.detach()), kMost);
  loss_of(y).backward();
  loss_of(dense_y).backward();
  expect_gradients(adapter, expected);
  const DisableAdapter off(adapter);
  EXPECT_TRUE(at::equal(forward().detach(), base));
  return adapter.layers().at(0).path;
}

class Dora : public testing::Test {
 protected:
  Dora() { at::manual_seed(1); }
  at::Tensor x_ = at::randn({5, 8}, at::kDouble);
};

TEST_F(Dora, LinearInFactoredForm) {
  for (const bool bias : {true, false}) {
    nn::Linear module(nn::LinearOptions(8, 6).bias(bias));
    module->to(at::kDouble);
    const auto b = bias ? module->bias.detach() : at::Tensor();
    const auto path = expect_definition(
        *module, "weight", [&] { return module(x_); },
        [&](const auto& w) { return at::linear(x_, w, b); });
    EXPECT_EQ(path, LayerPath::kFactored);
  }
}

TEST_F(Dora, ConvolutionInFactoredForm) {
  const auto image = at::randn({2, 3, 7, 6}, at::kDouble);
  nn::Conv2d module(nn::Conv2dOptions(3, 5, {3, 2}).stride(2).padding(1));
  module->to(at::kDouble);
  const auto path = expect_definition(
      *module, "weight", [&] { return module(image); },
      [&](const auto& w) { return at::conv2d(image, w, module->bias.detach(), 2, 1); });
  EXPECT_EQ(path, LayerPath::kFactored);
}

TEST_F(Dora, EmbeddingInFactoredForm) {
  const auto ids = at::randint(0, 9, {3, 4}, at::kLong);
  nn::Embedding module(9, 5);
  module->to(at::kDouble);
  const auto path = expect_definition(
      *module, "weight", [&] { return module(ids); },
      [&](const auto& w) { return at::embedding(w, ids); }, /*transposed=*/true);
  EXPECT_EQ(path, LayerPath::kFactored);
}

TEST_F(Dora, RecurrentWeightAsADenseOne) {
  const auto sequence = at::randn({3, 2, 8}, at::kDouble);
  nn::LSTM module(8, 4);
  module->to(at::kDouble);
  const auto others = module->named_parameters();
  const auto state = at::zeros({1, 2, 4}, at::kDouble);
  const auto path = expect_definition(
      *module, "weight_ih_l0", [&] { return std::get<0>(module(sequence)); },
      [&](const auto& w) {
        return std::get<0>(
            at::lstm(sequence, {state, state},
                     {w, others["weight_hh_l0"], others["bias_ih_l0"], others["bias_hh_l0"]},
                     /*has_biases=*/true, /*num_layers=*/1, /*dropout=*/0,
                     /*train=*/true, /*bidirectional=*/false,
                     /*batch_first=*/false));
      });
  EXPECT_EQ(path, LayerPath::kDense);
}

TEST_F(Dora, BilinearWeightAsADenseOne) {
  const auto other = at::randn({5, 3}, at::kDouble);
  nn::Bilinear module(8, 3, 4);
  module->to(at::kDouble);
  const auto path = expect_definition(
      *module, "weight", [&] { return module(x_, other); },
      [&](const auto& w) { return at::bilinear(x_, other, w, module->bias.detach()); });
  EXPECT_EQ(path, LayerPath::kDense);
}

/// In training, dropout applies to the input of A, and to the base's input in the part that the
/// magnitude adds. With PiSSA, the base is what remains of W.
TEST_F(Dora, DropsTheInputOfAllThatItAdds) {
  for (const auto init : {LoraInit::kKaimingUniform, LoraInit::kPissa}) {
    nn::Linear module(8, 6);
    module->to(at::kDouble);
    const auto bias = module->bias.detach().clone();
    auto w = module->weight.detach().clone();
    auto adapter = attach(
        *module, {.rank = 2, .alpha = 3, .init = init, .use_dora = true, .lora_dropout = 0.4});
    const auto start = adapter.layers().at(0);
    w -= start.scaling * start.b.detach().mm(start.a.detach());  // zero except with PiSSA
    randomize(adapter);
    const Trained expected(adapter.layers().at(0));

    at::manual_seed(7);
    const auto y = module(x_);
    at::manual_seed(7);
    const auto kept = at::dropout(x_, 0.4, /*train=*/true);
    const auto scale = expected.scale(w);
    const auto low = expected.scaling * kept.mm(expected.a.t()).mm(expected.b.t());
    const auto explicit_y = at::linear(x_, w, bias) + (scale - 1) * kept.mm(w.t()) + scale * low;
    EXPECT_LE(relative_error(y.detach(), explicit_y.detach()), kMost);
    loss_of(y).backward();
    loss_of(explicit_y).backward();
    expect_gradients(adapter, expected);

    module->eval();
    const auto dense = at::linear(x_, expected.weight(w, false), bias);
    EXPECT_LE(relative_error(module(x_).detach(), dense.detach()), kMost) << "dropped unasked";
  }
}

TEST_F(Dora, MagnitudeStartsAsTheNormsOfTheRows) {
  nn::Linear module(8, 6);
  const auto norms = at::linalg_vector_norm(module->weight.detach(), 2, {1});
  const auto adapter = attach(*module, {.rank = 2, .use_dora = true});
  EXPECT_TRUE(at::equal(adapter.layers().at(0).magnitude.detach(), norms));
}

TEST_F(Dora, NeedsRowsWithADirection) {
  nn::Linear module(8, 6);
  module->weight.data()[4].zero_();
  LOWRANK_EXPECT_ERROR(attach(*module, {.rank = 2, .use_dora = true}), ArgumentError,
                       "use_dora must be for weights without a row of zeros, which has no "
                       "direction. Got \"weight\", where the row of output 4 is zero.");
}

}  // namespace
}  // namespace lowrank
