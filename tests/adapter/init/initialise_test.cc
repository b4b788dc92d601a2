#include <gtest/gtest.h>
#include <lowrank/error.h>
#include <lowrank/io/json.h>
#include <lowrank/io/safetensors.h>
#include <torch/nn/modules/conv.h>
#include <torch/nn/modules/embedding.h>
#include <torch/nn/modules/linear.h>

#include "support/dense_reference.h"
#include "support/temporary_folder.h"
#include "support/tolerances.h"

// Initialisations that depend on W, through attach(), save() and load_adapter().
namespace lowrank {
namespace {

namespace nn = torch::nn;

/// Token embeddings, a convolution over them, and two Linear layers.
struct InitialisedNet : nn::Module {
  nn::Embedding tokens{nullptr};
  nn::Conv1d mix{nullptr};
  nn::Linear wide{nullptr}, head{nullptr};
  InitialisedNet() {
    at::manual_seed(3);
    tokens = register_module("tokens", nn::Embedding(11, 6));
    mix = register_module("mix", nn::Conv1d(nn::Conv1dOptions(6, 8, 3).padding(1)));
    wide = register_module("wide", nn::Linear(8, 12));
    head = register_module("head", nn::Linear(12, 5));
  }
  at::Tensor forward(const at::Tensor& ids) {
    const auto mixed = mix(tokens(ids).transpose(1, 2)).transpose(1, 2);
    return head(wide(mixed).tanh());
  }
};

struct InitCase {
  const char* name;
  LoraConfig config;
};

LoraConfig config_of(LoraInit init, std::vector<std::string> targets) {
  return {
      .rank = 2, .alpha = 3, .target_modules = ModuleSelector(std::move(targets)), .init = init};
}

LoraConfig with_patterns(LoraInit init) {
  auto config = config_of(init, {"wide", "head"});
  config.use_rslora = true;
  config.rank_pattern = {{"head", 4}};
  config.alpha_pattern = {{"wide", 0.7}};
  return config;
}

class Initialise : public testing::TestWithParam<InitCase> {
 protected:
  const LoraConfig& config() const { return GetParam().config; }
  bool is_taken_off() const { return config().init != LoraInit::kOrthogonal; }

  at::Tensor output(InitialisedNet& net) const {
    const at::NoGradGuard no_grad;
    return net.forward(ids_);
  }

  /// Moves every factor away from its initial value, as training would.
  static void disturb(const Adapter& adapter) {
    const at::NoGradGuard no_grad;
    for (const auto& parameter : adapter.parameters()) {
      parameter.add_(0.3 * at::randn(parameter.sizes()));
    }
  }

  /// Returns the output of a new net with the saved adapter.
  at::Tensor output_of(const std::filesystem::path& folder, LoraConfig& found) const {
    const auto net = std::make_shared<InitialisedNet>();
    const auto loaded = load_adapter(*net, folder);
    EXPECT_TRUE(loaded.report.base_matches());
    EXPECT_FALSE(loaded.report.acts_like_base);
    found = loaded.adapter.config();
    return output(*net);
  }

  at::Tensor ids_ = at::arange(11).view({1, 11});
  std::shared_ptr<InitialisedNet> net_ = std::make_shared<InitialisedNet>();
  TemporaryFolder folder_;
  const double allowed_ = tolerance(at::kFloat, 16).decomposition;
};

TEST_P(Initialise, StartsAsTheBaseAndLeavesItsBits) {
  const auto base = output(*net_);
  const auto fingerprint = base_fingerprint(*net_);
  const auto adapter = attach(*net_, config());
  EXPECT_LE(relative_error(output(*net_), base), allowed_);
  for (const auto& layer : adapter.layers()) {
    const bool factors = layer.a.ne(0).any().item<bool>() && layer.b.ne(0).any().item<bool>();
    EXPECT_EQ(factors, layer.name != "tokens") << layer.name;
  }
  disturb(adapter);
  EXPECT_GT(relative_error(output(*net_), base), 0.01);
  EXPECT_EQ(base_fingerprint(*net_), fingerprint);
  const DisableAdapter off(adapter);
  EXPECT_TRUE(at::equal(output(*net_), base));
}

TEST_P(Initialise, ComesBackFromItsFile) {
  const auto adapter = attach(*net_, config());
  disturb(adapter);
  adapter.save(folder_ / "own");
  LoraConfig found;
  EXPECT_LE(relative_error(output_of(folder_ / "own", found), output(*net_)), allowed_);
}

TEST_P(Initialise, ComesBackFromThePlainForm) {
  const auto adapter = attach(*net_, config());
  disturb(adapter);
  adapter.save(folder_ / "plain", {.convert = true});
  LoraConfig found;
  EXPECT_LE(relative_error(output_of(folder_ / "plain", found), output(*net_)), allowed_);
  if (!is_taken_off()) return;
  EXPECT_EQ(found.rank, 2 * config().rank);
  EXPECT_EQ(found.init, LoraInit::kKaimingUniform);
  const auto file = SafetensorsFile::open(folder_ / "plain" / "adapter_model.safetensors");
  for (const auto& layer : adapter.layers()) {
    const auto name = "base_model.model." + layer.name +
                      (layer.name == "tokens" ? ".lora_embedding_A" : ".lora_A.weight");
    EXPECT_EQ(file.tensor(name).size(0), 2 * layer.a.size(0)) << name;
  }
}

INSTANTIATE_TEST_SUITE_P(
    Methods, Initialise,
    testing::Values(
        InitCase{"pissa", config_of(LoraInit::kPissa, {"wide", "head"})},
        InitCase{"olora", config_of(LoraInit::kOlora, {"wide", "head"})},
        InitCase{"orthogonal", config_of(LoraInit::kOrthogonal, {"wide", "head"})},
        InitCase{"pissa_patterns", with_patterns(LoraInit::kPissa)},
        InitCase{"pissa_niter", config_of(LoraInit::kPissaNiter, {"wide", "head"})},
        InitCase{"pissa_everywhere", config_of(LoraInit::kPissa, {"tokens", "mix", "wide"})},
        InitCase{"olora_everywhere", config_of(LoraInit::kOlora, {"tokens", "mix", "wide"})},
        InitCase{"orthogonal_everywhere",
                 config_of(LoraInit::kOrthogonal, {"tokens", "mix", "wide"})}),
    [](const auto& test) { return std::string(test.param.name); });

/// A method's name in the config makes PEFT repeat the method, or refuse the file if it cannot.
TEST(InitialiseFiles, NameTheMethodWherePeftCanRepeatIt) {
  const TemporaryFolder folder;
  const auto written = [&](LoraInit init, std::vector<std::string> targets) {
    InitialisedNet net;
    attach(net, config_of(init, std::move(targets))).save(folder / "adapter", {.force = true});
    const auto config = read_json_file(folder / "adapter" / "adapter_config.json");
    return std::pair(config["init_lora_weights"].dump(), config["r"].get<int64_t>());
  };
  using Written = std::pair<std::string, int64_t>;
  EXPECT_EQ(written(LoraInit::kPissa, {"wide", "tokens"}), Written("\"pissa\"", 2));
  EXPECT_EQ(written(LoraInit::kOlora, {"wide"}), Written("\"olora\"", 2));
  EXPECT_EQ(written(LoraInit::kOrthogonal, {"wide"}), Written("\"orthogonal\"", 2));
  EXPECT_EQ(written(LoraInit::kPissa, {"tokens", "mix"}), Written("true", 4));
  EXPECT_EQ(written(LoraInit::kOrthogonal, {"mix"}), Written("true", 2));
  EXPECT_EQ(written(LoraInit::kPissaNiter, {"wide"}), Written("true", 4));
}

}  // namespace
}  // namespace lowrank
