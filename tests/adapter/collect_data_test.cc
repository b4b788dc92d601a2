#include <gtest/gtest.h>
#include <lowrank/error.h>
#include <lowrank/io/json.h>
#include <torch/nn/modules/batchnorm.h>
#include <torch/nn/modules/conv.h>
#include <torch/nn/modules/embedding.h>
#include <torch/nn/modules/linear.h>
#include <torch/nn/modules/rnn.h>

#include <limits>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <thread>

#include "adapter/init/init_support.h"
#include "support/dense_reference.h"
#include "support/expect_error.h"
#include "support/temporary_folder.h"
#include "support/tolerances.h"

// What a run over data may do, what it changes, and what is refused.
namespace lowrank {
namespace {

namespace nn = torch::nn;
using Names = std::vector<std::string>;

/// Like the class of transformers: weight (in, out).
struct Conv1D : nn::Module {
  Conv1D(int64_t in, int64_t out) {
    weight = register_parameter("weight", at::randn({in, out}));
    bias = register_parameter("bias", at::zeros({out}));
  }
  at::Tensor forward(const at::Tensor& x) const { return at::addmm(bias, x, weight); }
  at::Tensor weight, bias;
};

/// Token embeddings, and layers that a forward may leave out.
struct MixedNet : nn::Module {
  nn::Embedding tokens{nullptr};
  nn::Conv1d mix{nullptr};
  nn::BatchNorm1d norm{nullptr};
  std::shared_ptr<Conv1D> transposed;
  nn::Linear head{nullptr}, spare{nullptr};
  MixedNet() {
    at::manual_seed(3);
    tokens = register_module("tokens", nn::Embedding(11, 6));
    mix = register_module("mix", nn::Conv1d(nn::Conv1dOptions(6, 8, 3).padding(1)));
    norm = register_module("norm", nn::BatchNorm1d(8));
    transposed = register_module("transposed", std::make_shared<Conv1D>(8, 12));
    head = register_module("head", nn::Linear(12, 9));
    spare = register_module("spare", nn::Linear(12, 9));
  }
  at::Tensor features(const at::Tensor& ids) {
    return norm(mix(tokens(ids).transpose(1, 2))).select(2, 0);
  }
  at::Tensor forward(const at::Tensor& ids) {
    return head(transposed->forward(features(ids)).tanh());
  }
};

class DataRun : public testing::Test {
 protected:
  static LoraConfig config(LoraInit init, const Names& targets) {
    return {.rank = 2, .alpha = 3, .target_modules = ModuleSelector(targets), .init = init};
  }

  void forward() { net_->forward(ids_); }
  void backward() { loss_of(net_->forward(ids_)).backward(); }

  std::shared_ptr<MixedNet> net_ = std::make_shared<MixedNet>();
  at::Tensor ids_ = at::randint(0, 11, {30, 4}, at::kLong);
};

TEST_F(DataRun, IsWantedByInitsThatLookAtData) {
  LOWRANK_EXPECT_ERROR(attach(*net_, config(LoraInit::kEva, {"head"})), ArgumentError,
                       "[attach] the init eva must be given data. Got none. Pass a function that "
                       "runs the model over representative batches after the config.");
  LOWRANK_EXPECT_ERROR(attach(*net_, config(LoraInit::kLoraGa, {"head"})), ArgumentError,
                       "runs the model forward and backward over representative batches");
}

TEST_F(DataRun, IsNotCalledByOthers) {
  bool called = false;
  attach(*net_, config(LoraInit::kPissa, {"head"}), [&] { called = true; });
  EXPECT_FALSE(called);
}

TEST_F(DataRun, MustReachEveryLayer) {
  const auto refused = [&](LoraInit init, const char* message) {
    const auto run = [&] { init == LoraInit::kLoraGa ? backward() : forward(); };
    LOWRANK_EXPECT_ERROR(attach(*net_, config(init, {"head", "spare", "transposed"}), run),
                         ArgumentError, message);
  };
  const char* no_input =
      "[attach] the run must reach every adapted layer by a linear operator. Got no input of "
      "\"spare\". Leave them out of target_modules, or run data that needs them.";
  refused(LoraInit::kEva, no_input);
  refused(LoraInit::kCorda, no_input);
  refused(LoraInit::kLoraGa,
          "[attach] the run must reach every adapted layer by a backward pass. Got no gradient of "
          "\"spare\".");
  LOWRANK_EXPECT_ERROR(attach(*net_, config(LoraInit::kLoraGa, {"head"}), [&] { forward(); }),
                       ArgumentError, "Got no gradient of \"head\".");
  LOWRANK_EXPECT_ERROR(attach(*net_, config(LoraInit::kEva, {"head"}), [] {}), ArgumentError,
                       "Got no input of \"head\".");
}

TEST_F(DataRun, SeesOnlyLinearLayers) {
  LOWRANK_EXPECT_ERROR(
      attach(*net_, config(LoraInit::kEva, {"head", "mix"}), [&] { forward(); }), ArgumentError,
      "[attach] the init eva must be for linear layers and embeddings. Got \"mix\", which is "
      "neither.");
  nn::LSTM lstm(3, 4);
  LOWRANK_EXPECT_ERROR(attach(*lstm, config(LoraInit::kCorda, {"weight_ih_l0"}), [] {}),
                       ArgumentError, "Got \"weight_ih_l0\", which is neither.");
}

TEST_F(DataRun, NamesTheLayerOfBadData) {
  const auto run = [&] {
    net_->head->forward(at::ones({4, 12}));
    net_->spare->forward(at::full({4, 12}, std::numeric_limits<float>::infinity()));
  };
  LOWRANK_EXPECT_ERROR(attach(*net_, config(LoraInit::kCorda, {"head", "spare"}), run), TensorError,
                       "[corda] a batch of inputs must hold only finite numbers.");
  auto wide = config(LoraInit::kLoraGa, {"head"});
  wide.rank = 5;
  LOWRANK_EXPECT_ERROR(attach(*net_, wide, [&] { backward(); }), ArgumentError,
                       "[lora_ga] the rank must be at least 1 and at most half of the smaller of "
                       "out and in, 4. Got 5. (At the layer \"head\".)");
}

/// A transposed weight, inputs of one dimension, and a layer that a forward on another thread
/// reads.
TEST_F(DataRun, SeesEveryFormOfALinearLayer) {
  const auto rows = at::randn({40, 12}) * at::pow(0.6, at::arange(12));
  const auto run = [&] {
    net_->transposed->forward(at::randn({30, 8}));
    for (const auto& row : rows.slice(0, 0, 20).unbind()) net_->head->forward(row);
    std::thread([&] { net_->head->forward(rows.slice(0, 20).view({2, 10, 12})); }).join();
  };
  auto eva = config(LoraInit::kEva, {"transposed", "head"});
  eva.eva_config.rho = 3;  // keeps all 12 components, so that the sketch is exact
  const auto adapter = attach(*net_, eva, run);
  EXPECT_EQ(adapter.layers()[0].a.size(1), 8);
  const auto head = adapter.layers()[1];
  const auto x = rows.to(at::kDouble);
  const auto vt = std::get<2>(at::linalg_svd(x - x.mean(0), /*full_matrices=*/false));
  EXPECT_LT(init::sine(head.a.detach().t(), vt.slice(0, 0, head.a.size(0)).t()), 1e-3);
}

TEST_F(DataRun, LeavesEmbeddingsToPeftsDefault) {
  for (const auto init : {LoraInit::kEva, LoraInit::kCorda, LoraInit::kLoraGa}) {
    const auto run = [&] { init == LoraInit::kLoraGa ? backward() : forward(); };
    auto adapter = attach(*net_, config(init, {"tokens", "head"}), run);
    const auto layers = adapter.layers();
    ASSERT_EQ(layers[0].name, "tokens");
    EXPECT_FALSE(layers[0].a.ne(0).any().item<bool>());
    EXPECT_TRUE(layers[0].b.ne(0).any().item<bool>());
    adapter.detach();
  }
}

/// Batch norms update their statistics in training; the run must leave no trace in them.
TEST_F(DataRun, RestoresBuffers) {
  const auto mean = net_->norm->running_mean.clone();
  const auto count = net_->norm->num_batches_tracked.clone();
  for (const auto init : {LoraInit::kEva, LoraInit::kLoraGa}) {
    const auto run = [&] { init == LoraInit::kLoraGa ? backward() : forward(); };
    attach(*net_, config(init, {"head"}), run).detach();
    EXPECT_TRUE(at::equal(net_->norm->running_mean, mean));
    EXPECT_TRUE(at::equal(net_->norm->num_batches_tracked, count));
  }
}

/// The run for a second adapter sees the base, and the first adapter is on again afterwards.
TEST_F(DataRun, OfASecondAdapterSeesTheBase) {
  net_->eval();
  const auto base = [&] {
    auto alone = attach(*net_, config(LoraInit::kEva, {"head"}), [&] { forward(); });
    const auto a = alone.layers()[0].a.detach().clone();
    alone.detach();
    return a;
  }();
  auto adapter = attach(*net_, {.rank = 2, .target_modules = {"head", "transposed"}});
  randomize(adapter);
  const at::NoGradGuard no_grad;
  const auto before = net_->forward(ids_);
  LOWRANK_EXPECT_ERROR(adapter.add("eva", config(LoraInit::kEva, {"spare"}), [&] { forward(); }),
                       ArgumentError, "Got no input of \"spare\".");
  EXPECT_TRUE(at::equal(net_->forward(ids_), before));
  adapter.add("eva", config(LoraInit::kEva, {"head"}), [&] { forward(); });
  EXPECT_TRUE(at::equal(adapter.layers("eva")[0].a, base));
  EXPECT_TRUE(at::equal(net_->forward(ids_), before));
  adapter.add("ga", config(LoraInit::kLoraGa, {"head"}), [&] { backward(); });
  adapter.set_active({"eva", "ga"});
  const auto both = net_->forward(ids_);
  const DisableAdapter off(adapter);
  EXPECT_LE(relative_error(both, net_->forward(ids_)), tolerance(at::kFloat, 16).product);
}

/// "head" and "inner.head", which names and keys for "head" match as well.
struct Inner : nn::Module {
  nn::Linear head{register_module("head", nn::Linear(6, 4))};
};
struct Outer : nn::Module {
  nn::Linear head{register_module("head", nn::Linear(6, 4))};
  nn::Linear second{register_module("second", nn::Linear(6, 4))};
  std::shared_ptr<Inner> inner{register_module("inner", std::make_shared<Inner>())};
};

class EvaWithoutARank : public testing::Test {
 protected:
  /// Returns the layers, with their ranks, that are left if the inputs of `constant` do not vary.
  std::map<std::string, int64_t> ranks_without(const std::string& constant) {
    const auto rows = at::randn({50, 6}) * at::tensor({1.F, 0.01F, 0.01F, 0.01F, 0.01F, 0.01F});
    const std::map<std::string, nn::Linear> layers = {
        {"head", net_->head}, {"second", net_->second}, {"inner.head", net_->inner->head}};
    const auto run = [&] {
      for (auto [name, layer] : layers) layer(name == constant ? at::ones({5, 6}) : rows);
    };
    adapter_ = attach(
        *net_, {.rank = 1, .target_modules = {"head", "second"}, .init = LoraInit::kEva}, run);
    return ranks(*adapter_);
  }

  static std::map<std::string, int64_t> ranks(const Adapter& adapter) {
    std::map<std::string, int64_t> ranks;
    for (const auto& layer : adapter.layers()) ranks[layer.name] = layer.a.size(0);
    return ranks;
  }

  /// Loads what was saved, which fails if the config gives other layers or ranks.
  std::map<std::string, int64_t> ranks_from_file() {
    adapter_->save(folder_ / "eva");
    return ranks(load_adapter(*std::make_shared<Outer>(), folder_ / "eva").adapter);
  }

  using Ranks = std::map<std::string, int64_t>;
  std::shared_ptr<Outer> net_ = std::make_shared<Outer>();
  TemporaryFolder folder_;
  std::optional<Adapter> adapter_;
};

TEST_F(EvaWithoutARank, TheLayerIsLeftOut) {
  const Ranks expected = {{"head", 2}, {"second", 1}};
  EXPECT_EQ(ranks_without("inner.head"), expected);
  EXPECT_EQ(adapter_->config().target_modules.regex, "head|second");
  // s stays the same, whatever the rank.
  for (const auto& layer : adapter_->layers()) EXPECT_EQ(layer.scaling, 8) << layer.name;
  EXPECT_EQ(ranks_from_file(), expected);
  const auto file = read_json_file(folder_ / "eva" / "adapter_config.json");
  EXPECT_EQ(file["init_lora_weights"], "eva");
  EXPECT_EQ(file["eva_config"]["rho"], 2);
  EXPECT_EQ(file["rank_pattern"].dump(), R"({"head":2,"second":1})");
}

TEST_F(EvaWithoutARank, KeysOfTheOthersMatchTheirOwnLayers) {
  const Ranks expected = {{"head", 2}, {"inner.head", 1}};
  EXPECT_EQ(ranks_without("second"), expected);
  EXPECT_TRUE(adapter_->config().target_modules.regex.empty());
  EXPECT_EQ(ranks_from_file(), expected);
}

/// Returns the share of the gradient's energy that is in B's columns or A's rows, which the first
/// step can change.
double captured(const at::Tensor& gradient, const init::FactorPair& pair) {
  const auto g = gradient.to(at::kDouble);
  const auto b = init::basis(pair.b), a = init::basis(pair.a.t());
  const auto rest = g - b.mm(b.t().mm(g));
  return 1 - (rest - rest.mm(a).mm(a.t())).square().sum().item<double>() /
                 g.square().sum().item<double>();
}

/// The gradient of the loss with respect to the weight is the fixture's.
TEST(LoraGaThroughAttach, CapturesAsMuchAsPeft) {
  const init::PeftFactors peft;
  nn::Linear linear(nn::LinearOptions(12, 8).bias(false));
  {
    const at::NoGradGuard no_grad;
    linear->weight.copy_(peft.weight());
  }
  auto holder = nn::Module();
  holder.register_module("linear", linear);
  const LoraConfig config = {
      .rank = 3, .alpha = 6, .target_modules = {"linear"}, .init = LoraInit::kLoraGa};
  const auto adapter = attach(holder, config, [&] {
    for (int i = 0; i < 2; ++i) {
      (linear->forward(at::eye(12)) * peft.gradient().t()).sum().backward();
    }
  });
  const auto layer = adapter.layers()[0];
  const double ours = captured(peft.gradient(), {layer.a.detach(), layer.b.detach()});
  const double theirs = captured(peft.gradient(), peft.of("lora_ga"));
  EXPECT_GE(ours, theirs - 1e-3);
  // The signs of the vectors are not determined, and the norm of B follows from the mean gradient.
  EXPECT_LE(init::difference(at::linalg_svdvals(layer.b.detach()),
                             at::linalg_svdvals(peft.of("lora_ga").b)),
            1e-5);
}

}  // namespace
}  // namespace lowrank
