// Covers TorchScript files: src/adapter/targets/model_view_script.cc and src/effective/ops.

#include <gtest/gtest.h>
#include <lowrank/error.h>
#include <lowrank/optim/adam.h>
#include <torch/csrc/jit/serialization/import.h>
#include <torch/script.h>

#include <thread>

#include "support/dense_reference.h"
#include "support/expect_error.h"
#include "support/temporary_folder.h"

// TorchScript files made by Python, scripted and traced. The net is an embedding, a convolution, an
// LSTM and two linear layers, one after the other.
namespace lowrank {
namespace {

const std::vector<std::string> kEveryKind = {"embedding",         "conv",    "lstm.weight_ih_l0",
                                             "lstm.weight_hh_l0", "linear1", "linear2"};

torch::jit::Module load_fixture(const std::string& name) {
  return torch::jit::load(std::string(LOWRANK_FIXTURES) + "/" + name);
}

at::Tensor run(torch::jit::Module& module, const at::Tensor& x) {
  return module.forward({x}).toTensor();
}

class Script : public testing::TestWithParam<const char*> {
 protected:
  Script() : module_(load_fixture(GetParam())) {
    at::manual_seed(1);
    ids_ = at::randint(0, 20, {3, 4}, at::kLong);
    for (int i = 0; i < 3; ++i)
      run(module_, ids_);  // so that the profiling executor has optimized it
  }
  torch::jit::Module module_;
  at::Tensor ids_;
};

TEST_P(Script, MeansItsDenseWeights) {
  auto adapter =
      attach(module_, {.rank = 2, .alpha = 3, .target_modules = ModuleSelector(kEveryKind)});
  randomize(adapter);
  for (const bool train : {true, false}) {
    module_.train(train);
    expect_dense(
        module_, adapter, [&] { return run(module_, ids_); },
        [](const AdaptedLayer& layer) { return layer.name == "embedding"; });
  }
  for (const auto& layer : adapter.layers()) {
    EXPECT_EQ(layer.path, layer.name.starts_with("lstm") ? LayerPath::kDense : LayerPath::kFactored)
        << layer.name;
  }
}

/// Trains for a hundred steps on a thread that neither loaded the module nor attached the adapter.
TEST_P(Script, TrainsOnAnotherThread) {
  auto adapter =
      attach(module_, {.rank = 2, .alpha = 2, .target_modules = ModuleSelector(kEveryKind)});
  module_.train();
  const auto labels = at::tensor({0, 3, 4}, at::kLong);
  double first = 0, last = 0;
  int missing = 0;
  Adam optimizer(adapter.parameters(), {.learning_rate = 0.02});
  std::thread([&] {
    for (int step = 0; step < 100; ++step) {
      const auto loss = at::cross_entropy_loss(run(module_, ids_), labels);
      loss.backward();
      (step == 0 ? first : last) = loss.item<double>();
      for (const auto& parameter : adapter.parameters()) {
        missing += parameter.grad().defined() ? 0 : 1;
      }
      optimizer.step();
      optimizer.zero_grad();
    }
  }).join();
  EXPECT_EQ(missing, 0) << "of 12 gradients at each of 100 steps";
  EXPECT_LT(last, 0.3 * first);
}

TEST_P(Script, ComesBackFromDiskAndMergesIntoAPlainFile) {
  const at::NoGradGuard no_grad;
  auto adapter =
      attach(module_, {.rank = 2, .alpha = 3, .target_modules = ModuleSelector(kEveryKind)});
  randomize(adapter);
  const auto expected = run(module_, ids_);
  const TemporaryFolder folder;
  adapter.save(folder / "adapter");
  auto fresh = load_fixture(GetParam());
  const auto loaded = load_adapter(fresh, folder / "adapter");
  EXPECT_TRUE(loaded.report.base_matches());
  EXPECT_TRUE(at::equal(run(fresh, ids_), expected));

  adapter.merge();
  module_.save((folder / "merged.pt").string());
  auto merged = torch::jit::load((folder / "merged.pt").string());
  EXPECT_LE(relative_error(run(merged, ids_), expected), 1e-5);
  adapter.detach();
  auto base = load_fixture(GetParam());
  EXPECT_TRUE(at::equal(run(module_, ids_), run(base, ids_)));
}

INSTANTIATE_TEST_SUITE_P(Files, Script, testing::Values("reader_scripted.pt", "reader_traced.pt"),
                         [](const auto& test) {
                           const std::string name = test.param;
                           return name.substr(7, name.find('.') - 7);
                         });

/// This is not tested with the traced net: a traced LSTM has the dtype of its initial state in its
/// code.
TEST(ScriptedReader, FollowsAConversionToDouble) {
  const at::NoGradGuard no_grad;
  auto module = load_fixture("reader_scripted.pt");
  const auto ids = at::randint(0, 20, {3, 4}, at::kLong);
  auto adapter = attach(module, {.rank = 2, .target_modules = {"linear1", "linear2"}});
  randomize(adapter);
  const auto expected = run(module, ids);
  module.to(at::kDouble);
  EXPECT_LE(relative_error(run(module, ids), expected), 1e-5);
}

TEST(ScriptedEncoder, IsTrainedInTrainModeAlone) {
  auto module = load_fixture("encoder_scripted.pt");
  auto adapter = attach(module, {.rank = 2, .target_modules = {"layer.linear1", "layer.linear2"}});
  randomize(adapter);
  const auto x = at::randn({2, 3, 8});
  module.train();
  const auto expected = run(module, x);
  expected.sum().backward();
  for (const auto& p : adapter.parameters()) EXPECT_TRUE(p.grad().defined());
  module.eval();
  {
    const at::NoGradGuard no_grad;
    EXPECT_LE(relative_error(run(module, x), expected.detach()), 1e-5);
  }
  EXPECT_THROW(
      {
        try {
          run(module, x);
        } catch (const std::exception& error) {
          EXPECT_THAT(error.what(), testing::HasSubstr("must be in train() to be trained"));
          EXPECT_THAT(error.what(), testing::HasSubstr("Call train() on the model"));
          throw;
        }
      },
      std::exception);
}

/// Adapts all weights of two dimensions. The net was traced in train(), which keeps the unfused
/// operators.
TEST(TracedEncoder, MeansItsDenseWeights) {
  auto module = load_fixture("encoder_traced.pt");
  auto adapter = attach(module, {.rank = 2,
                                 .alpha = 3,
                                 .target_modules = {"self_attn.in_proj_weight", "out_proj",
                                                    "layer.linear1", "layer.linear2"}});
  randomize(adapter);
  const auto x = at::randn({2, 3, 8});
  for (const bool train : {true, false}) {
    module.train(train);
    expect_dense(
        module, adapter, [&] { return run(module, x); },
        [](const AdaptedLayer& /*any*/) { return false; });
  }
}

TEST(FrozenScript, HasNothingToAttachTo) {
  auto module = load_fixture("reader_frozen.pt");
  LOWRANK_EXPECT_ERROR(
      attach(module, {.target_modules = {"linear1"}}), ArgumentError,
      "torch.jit.freeze and optimize_for_inference turn the weights into constants");
}

/// The constants of the frozen module are the weights themselves, so the adapter's changes reach
/// them, too.
TEST_P(Script, FollowsWhenFrozenWhileAttached) {
  const at::NoGradGuard no_grad;
  module_.eval();
  const auto base = run(module_, ids_);
  auto adapter =
      attach(module_, {.rank = 2, .alpha = 3, .target_modules = ModuleSelector(kEveryKind)});
  randomize(adapter);
  const auto expected = run(module_, ids_);
  auto frozen = torch::jit::freeze(module_);
  EXPECT_TRUE(at::equal(run(frozen, ids_), expected));
  adapter.disable();
  EXPECT_TRUE(at::equal(run(frozen, ids_), base));
}

TEST_P(Script, FollowsWhenOptimizedForInferenceWhileAttached) {
  const at::NoGradGuard no_grad;
  for (const auto& target : kEveryKind) {
    auto module = load_fixture(GetParam());
    module.eval();
    const auto base = run(module, ids_);
    auto adapter = attach(module, {.rank = 2, .alpha = 3, .target_modules = {target}});
    randomize(adapter);
    const auto expected = run(module, ids_);
    auto optimized = torch::jit::optimize_for_inference(module);
    EXPECT_LE(relative_error(run(optimized, ids_), expected), 1e-6) << target;
    adapter.disable();
    EXPECT_LE(relative_error(run(optimized, ids_), base), 1e-6) << target;
  }
}

TEST(OptimizedScript, RefusesWeightsThatCannotFollow) {
  const at::NoGradGuard no_grad;
  torch::jit::Module module("Image");
  module.register_parameter("weight", at::randn({4, 3, 3, 3}), /*is_buffer=*/false);
  module.register_attribute("training", c10::BoolType::get(), false);
  module.define("def forward(self, x):\n  return torch.conv2d(x, self.weight)\n");
  const auto x = at::randn({2, 3, 8, 8});
  auto adapter = attach(module, {.rank = 2, .target_modules = {"weight"}});
  randomize(adapter);
  EXPECT_THAT(
      [&] {
        auto optimized = torch::jit::optimize_for_inference(module);
        run(optimized, x);
      },
      testing::ThrowsMessage<std::exception>(testing::HasSubstr(
          "the weight of \"weight\" must stay a strided tensor while it is adapted")));
}

}  // namespace
}  // namespace lowrank
