// Covers what can be done to a model while it is adapted: src/adapter and src/effective.

#include <ATen/autocast_mode.h>
#include <c10/core/InferenceMode.h>
#include <gtest/gtest.h>
#include <lowrank/error.h>
#include <torch/csrc/autograd/forward_grad.h>
#include <torch/nn/cloneable.h>
#include <torch/nn/modules/embedding.h>
#include <torch/nn/modules/linear.h>
#include <torch/nn/modules/rnn.h>
#include <torch/serialize.h>
#include <torch/version.h>

#include <sstream>

#include "support/dense_reference.h"
#include "support/expect_error.h"
#include "support/temporary_folder.h"

// What may be done to a model while adapters are attached; docs/adapters.md has the table.
namespace lowrank {
namespace {

namespace nn = torch::nn;

/// Maps words to scores in both ways: the embedding and the linear layer are factored, the LSTM is
/// dense.
struct Tagger : nn::Cloneable<Tagger> {
  nn::Embedding embedding{nullptr};
  nn::LSTM lstm{nullptr};
  nn::Linear head{nullptr};

  Tagger() { reset(); }
  void reset() override {
    embedding = register_module("embedding", nn::Embedding(20, 8));
    lstm = register_module("lstm", nn::LSTM(8, 6));
    head = register_module("head", nn::Linear(6, 3));
  }
  at::Tensor forward(const at::Tensor& ids) { return head(std::get<0>(lstm(embedding(ids)))); }
};

const LoraConfig kTaggerConfig = {
    .rank = 2, .alpha = 3, .target_modules = {"embedding", "lstm.weight_ih_l0", "head"}};

bool is_embedding(const AdaptedLayer& layer) { return layer.name == "embedding"; }

/// LibTorch 1 cannot multiply float16 matrices on a CPU.
constexpr bool kHasHalfProducts = TORCH_VERSION_MAJOR >= 2;

/// Enables autocast to bfloat16 for a scope. It disables oneDNN, whose LSTM has no bfloat16 on
/// older CPUs.
class Autocast {
 public:
  Autocast() : had_mkldnn_(at::globalContext().userEnabledMkldnn()) {
    at::globalContext().setUserEnabledMkldnn(false);
    set(true);
  }
  ~Autocast() {
    set(false);
    at::autocast::clear_cache();
    at::globalContext().setUserEnabledMkldnn(had_mkldnn_);
  }
  Autocast(const Autocast&) = delete;
  Autocast& operator=(const Autocast&) = delete;

 private:
  static void set(bool on) {
#if TORCH_VERSION_MAJOR >= 2
    at::autocast::set_autocast_enabled(at::kCPU, on);
    at::autocast::set_autocast_dtype(at::kCPU, at::kBFloat16);
#else
    at::autocast::set_cpu_enabled(on);
    at::autocast::set_autocast_cpu_dtype(at::kBFloat16);
#endif
  }

  bool had_mkldnn_;
};

class States : public testing::Test {
 protected:
  States() {
    at::manual_seed(1);
    net_ = std::make_shared<Tagger>();
    ids_ = at::randint(0, 20, {4, 3}, at::kLong);
    base_ = output(*net_);
    adapter_ = std::make_unique<Adapter>(attach(*net_, kTaggerConfig));
    randomize(*adapter_);
    on_ = output(*net_);
  }

  at::Tensor output(Tagger& net) const {
    const at::NoGradGuard no_grad;
    return net.forward(ids_);
  }

  std::shared_ptr<Tagger> net_;
  at::Tensor ids_, base_, on_;
  std::unique_ptr<Adapter> adapter_;
};

TEST_F(States, AreOfEveryDtype) {
  for (const auto dtype : {at::kDouble, at::kBFloat16, at::kHalf, at::kFloat}) {
    net_->to(dtype);
    const double most = dtype == at::kBFloat16 ? 2e-2 : dtype == at::kHalf ? 2e-3 : 1e-5;
    for (const auto& layer : adapter_->layers()) {
      EXPECT_EQ(layer.weight.scalar_type(), dtype);
      EXPECT_EQ(layer.a.scalar_type(), at::kFloat) << "the factors stay as they are";
      const auto delta = dense_delta(layer, is_embedding(layer));
      const auto meant = at::Tensor(parameter_of(*net_, layer.parameter) + 0).detach();
      const auto stored = layer.weight.to(at::kDouble);
      EXPECT_EQ(meant.scalar_type(), dtype);
      EXPECT_LE(relative_error(meant, is_embedding(layer) ? stored : stored + delta), most)
          << layer.name << " in " << c10::toString(dtype);
    }
    if (dtype == at::kHalf && !kHasHalfProducts) continue;
    expect_dense(
        *net_, *adapter_, [&] { return net_->forward(ids_); }, is_embedding, most);
  }
}

TEST_F(States, FollowToAnotherDevice) {
  net_->to(at::kCPU);
  EXPECT_TRUE(at::equal(output(*net_), on_));
  const auto elsewhere = net_->head->weight.to(at::kMeta);  // a device that every machine has
  const auto y = at::linear(at::zeros({5, 6}, at::kMeta), elsewhere);
  EXPECT_TRUE(y.is_meta());
  EXPECT_EQ(y.sizes(), (std::vector<int64_t>{5, 3}));
  for (const auto& parameter : adapter_->parameters()) EXPECT_TRUE(parameter.is_cpu());
  EXPECT_TRUE(at::equal(output(*net_), on_));
}

TEST_F(States, AreClonedWithTheirFactors) {
  const auto clone = std::dynamic_pointer_cast<Tagger>(net_->clone());
  EXPECT_LE(relative_error(output(*clone), on_), 1e-6);
  {
    const at::NoGradGuard no_grad;
    clone->head->weight.zero_();
    EXPECT_TRUE(at::equal(output(*net_), on_)) << "the clone's weights are its own";
    for (const auto& parameter : adapter_->parameters()) parameter.zero_();
    EXPECT_LE(relative_error(output(*net_), base_), 1e-6) << "the factors are shared";
  }
  randomize(*adapter_);
  const auto x = at::randn({5, 6});
  EXPECT_TRUE(
      at::equal(at::linear(x, net_->head->weight.clone()), at::linear(x, net_->head->weight)));
}

TEST_F(States, DropInTrainingAlone) {
  nn::Linear layer(8, 6);
  auto adapter = attach(*layer, {.rank = 2, .alpha = 3, .lora_dropout = 0.5});
  randomize(adapter);
  const auto x = at::randn({5, 8});
  layer->train();
  EXPECT_FALSE(at::equal(layer(x), layer(x)));
  layer->eval();
  EXPECT_TRUE(at::equal(layer(x), layer(x)));
  net_->eval();
  EXPECT_TRUE(at::equal(output(*net_), on_));
}

TEST_F(States, AreSavedAsTheBase) {
  std::stringstream file;
  torch::save(net_, file);
  auto fresh = std::make_shared<Tagger>();
  torch::load(fresh, file);
  EXPECT_TRUE(at::equal(output(*fresh), base_));
  adapter_->disable();
  const auto stored = net_->named_parameters();
  for (const auto& item : fresh->named_parameters()) {
    EXPECT_TRUE(at::equal(item.value(), stored[item.key()])) << item.key();
  }
}

TEST_F(States, StayAdaptedWhenOtherWeightsAreLoaded) {
  std::stringstream file;
  torch::save(std::make_shared<Tagger>(), file);
  torch::load(net_, file);
  const auto found = output(*net_);
  adapter_->disable();
  EXPECT_FALSE(at::equal(output(*net_), base_));
  EXPECT_FALSE(at::equal(output(*net_), found));
  adapter_->enable();
  expect_dense(
      *net_, *adapter_, [&] { return net_->forward(ids_); }, is_embedding);
}

TEST_F(States, AreRightUnderAutocast) {
  const auto forward = [&] {
    const Autocast autocast;
    return net_->forward(ids_);
  };
  EXPECT_EQ(forward().scalar_type(), at::kBFloat16);
  expect_dense(*net_, *adapter_, forward, is_embedding, 2e-2);
  for (const auto& parameter : adapter_->parameters()) {
    EXPECT_EQ(parameter.grad().scalar_type(), at::kFloat);
  }
}

TEST_F(States, AreTheSameWithoutGradients) {
  // LibTorch 2 runs an LSTM with another kernel if no gradient is needed.
  EXPECT_LE(relative_error(net_->forward(ids_).detach(), on_), 1e-6);
  EXPECT_FALSE(output(*net_).requires_grad());
  const c10::InferenceMode inference;
  EXPECT_TRUE(at::equal(net_->forward(ids_), on_));
  const DisableAdapter off(*adapter_);
  EXPECT_TRUE(at::equal(net_->forward(ids_), base_));
}

/// Tests the derivative of an adapted layer along a direction of its input, in LibTorch's forward
/// mode.
TEST(AdaptedLayers, HaveForwardDerivatives) {
  at::manual_seed(4);
  nn::Linear layer(8, 6);
  auto adapter = attach(*layer, {.rank = 2, .alpha = 3});
  randomize(adapter);
  const auto x = at::randn({5, 8}), direction = at::randn({5, 8});
  for (const bool with_gradients : {false, true}) {
    const at::AutoGradMode mode(with_gradients);
    const auto level = torch::autograd::ForwardADLevel::get_next_idx();
    const auto dual = at::_make_dual(x, direction, static_cast<int64_t>(level));
    const auto y = layer->forward(dual);
    const auto tangent = std::get<1>(at::_unpack_dual(y, static_cast<int64_t>(level))).clone();
    torch::autograd::ForwardADLevel::release_idx(level);
    const at::NoGradGuard no_grad;
    const auto expected = layer->forward(direction) - layer->forward(at::zeros({5, 8}));
    EXPECT_LE(relative_error(tangent.detach(), expected), 1e-6);
  }
}

TEST(AdaptedLayers, HaveForwardDerivativesByTheirBias) {
  at::manual_seed(5);
  nn::Linear layer(8, 6);
  auto adapter = attach(*layer, {.rank = 2, .alpha = 3});
  randomize(adapter);
  const auto x = at::randn({5, 8}), direction = at::randn({6});
  const auto bias = layer->bias;
  const auto level = static_cast<int64_t>(torch::autograd::ForwardADLevel::get_next_idx());
  layer->bias = at::_make_dual(bias, direction, level);
  const auto tangent = std::get<1>(at::_unpack_dual(layer->forward(x), level)).clone();
  torch::autograd::ForwardADLevel::release_idx(static_cast<uint64_t>(level));
  layer->bias = bias;
  ASSERT_TRUE(tangent.defined());
  EXPECT_TRUE(at::equal(tangent, direction.expand({5, 6})));
}

/// A disabled layer takes a short cut below autograd, which must not lose anything of autograd.
TEST(DisabledLayers, AreDifferentiatedAsPlainOnes) {
  at::manual_seed(3);
  nn::Linear plain(8, 6), adapted(8, 6);
  std::stringstream file;
  torch::save(plain, file);
  torch::load(adapted, file);
  for (const auto& parameter : plain->parameters()) parameter.set_requires_grad(false);
  auto adapter = attach(*adapted, {.rank = 2, .alpha = 3});
  randomize(adapter);
  adapter.disable();
  const auto compare = [&](const std::function<at::Tensor(nn::Linear&)>& forward) {
    const auto found = forward(adapted), expected = forward(plain);
    EXPECT_TRUE(at::equal(found, expected));
    EXPECT_EQ(found.scalar_type(), expected.scalar_type());
    EXPECT_EQ(found.requires_grad(), expected.requires_grad());
    EXPECT_EQ(found.is_inference(), expected.is_inference());
  };
  for (const auto& shape : std::vector<std::vector<int64_t>>{{5, 8}, {2, 5, 8}}) {
    const auto x = at::randn(shape), direction = at::randn(shape);
    const auto product = [](nn::Linear& layer, const at::Tensor& input) {
      return at::linear(layer->forward(input), layer->weight.t(), {});
    };
    compare([&](auto& layer) { return product(layer, x); });
    compare([&](auto& layer) {
      const auto leaf = x.clone().set_requires_grad(true);
      product(layer, leaf).square().sum().backward();
      return leaf.grad();
    });
    compare([&](auto& layer) {
      const at::NoGradGuard no_grad;
      return product(layer, x);
    });
    compare([&](auto& layer) {
      const c10::InferenceMode inference;
      return product(layer, x);
    });
    compare([&](auto& layer) {
      const Autocast autocast;
      return product(layer, x);
    });
    compare([&](auto& layer) {
      const auto index = torch::autograd::ForwardADLevel::get_next_idx();
      const auto level = static_cast<int64_t>(index);
      const auto y = product(layer, at::_make_dual(x, direction, level));
      const auto tangent = std::get<1>(at::_unpack_dual(y, level)).clone();
      torch::autograd::ForwardADLevel::release_idx(index);
      return tangent;
    });
  }
}

TEST_F(States, AreTrainedAfterInferenceMode) {
  const TemporaryFolder folder;
  adapter_->save(folder / "one");
  auto fresh = std::make_shared<Tagger>();
  {
    const c10::InferenceMode inference;
    auto adapter = attach(*fresh, kTaggerConfig, "inside");
    adapter.load("one", folder / "one");
    adapter.add("two", kTaggerConfig);
    adapter.set_active({"inside", "one", "two"});
    fresh->forward(ids_);
    adapter.merge({"two"});
    adapter.unmerge();
    adapter_ = std::make_unique<Adapter>(adapter);
  }
  fresh->forward(ids_).sum().backward();
  for (const auto& name : adapter_->names()) {
    for (const auto& p : adapter_->parameters(name)) EXPECT_TRUE(p.grad().defined()) << name;
  }
}

TEST(InferenceWeights, AreRefusedWhereTheyAreMadeLater) {
  nn::Linear layer(8, 6);
  auto adapter = attach(*layer, {.rank = 2});
  const auto x = at::randn({5, 8}, at::kDouble);
  {
    const c10::InferenceMode inference;
    layer->to(at::kDouble);
    EXPECT_NO_THROW(layer->forward(x));
  }
  LOWRANK_EXPECT_ERROR(layer->forward(x), TensorError,
                       "the weight of \"weight\" must be made outside of inference mode to train "
                       "through it.");
  const at::NoGradGuard no_grad;
  EXPECT_NO_THROW(layer->forward(x));
}

TEST(InferenceWeights, AreRefused) {
  const auto make = [] {
    const c10::InferenceMode inference;
    return nn::Linear(8, 6);
  };
  auto layer = make();
  LOWRANK_EXPECT_ERROR(attach(*layer, {}), TensorError,
                       "an adapted weight must not be made in inference mode. Got \"weight\", "
                       "which was. Make or load the model outside of InferenceMode.");
}

}  // namespace
}  // namespace lowrank
