#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <lowrank/adapter/adapter.h>
#include <lowrank/error.h>
#include <lowrank/io/safetensors.h>

#include "adapter/targets/decoder.h"
#include "adapter/targets/targets.h"
#include "support/expect_error.h"
#include "support/temporary_folder.h"

// Parameters that modules_to_save and bias train in full.
namespace lowrank {
namespace {

using namespace decoder;
using ::testing::ElementsAre;

class WholeParameters : public Targets {
 protected:
  std::vector<std::string> whole(const LoraConfig& config) {
    const auto layers = layers_of(net_);
    std::vector<std::string> names;
    for (const auto& target : find_whole_parameters(layers, config, find_targets(layers, config))) {
      names.push_back(target.path);
    }
    return names;
  }
};

TEST_F(WholeParameters, AreThoseOfModulesToSave) {
  EXPECT_THAT(whole({.target_modules = {"value"}, .modules_to_save = {"layers.1", "conv"}}),
              ElementsAre("model.layers.1.query.weight", "model.layers.1.query.bias",
                          "model.layers.1.value.weight", "model.layers.1.value.bias", "conv.weight",
                          "conv.bias"));
  // The name may also end a longer word, as in PEFT.
  EXPECT_THAT(whole({.modules_to_save = {"head"}}), ElementsAre("lm_head.weight"));
  EXPECT_THAT(whole({}), ElementsAre());
}

TEST_F(WholeParameters, AreBiases) {
  EXPECT_THAT(whole({.target_modules = {"0.query", "conv"}, .bias = BiasMode::kLoraOnly}),
              ElementsAre("model.layers.0.query.bias", "conv.bias"));
  EXPECT_THAT(
      whole({.target_modules = {"0.query"}, .modules_to_save = {"conv"}, .bias = BiasMode::kAll}),
      ElementsAre("model.layers.0.query.bias", "model.layers.0.value.bias",
                  "model.layers.1.query.bias", "model.layers.1.value.bias",
                  "model.layers.2.query.bias", "model.layers.2.value.bias", "conv.weight",
                  "conv.bias", "norm.bias"));
}

TEST_F(WholeParameters, ComeWithRunningStatistics) {
  EXPECT_THAT(whole({.modules_to_save = {"norm"}}),
              ElementsAre("norm.weight", "norm.bias", "norm.running_mean", "norm.running_var",
                          "norm.num_batches_tracked"));
}

TEST_F(WholeParameters, MustExist) {
  LOWRANK_EXPECT_ERROR(whole({.modules_to_save = {"lm_haed"}}), ArgumentError,
                       "each of modules_to_save must match a module with parameters. Got "
                       "\"lm_haed\", which matches none of model.embed, ");
}

// PEFT's files for classifiers name both heads, and a model has one of them.
TEST_F(WholeParameters, MayBeEitherOfTwoHeads) {
  struct Classifier : Module {
    Linear body = register_module("body", Linear(3, 3));
    Linear score = register_module("score", Linear(3, 2));
  } model;
  const auto layers = layers_of(model);
  LoraConfig config{.target_modules = {"body"}, .modules_to_save = {"classifier", "score"}};
  EXPECT_EQ(find_whole_parameters(layers, config, find_targets(layers, config)).size(), 2U);
  config.modules_to_save = {"classifier"};
  LOWRANK_EXPECT_ERROR(find_whole_parameters(layers, config, {}), ArgumentError, "\"classifier\"");
  LOWRANK_EXPECT_ERROR(whole({.modules_to_save = {"classifier", "score"}}), ArgumentError,
                       "Got classifier, score, which match none of");
}

// PEFT writes the buffers of such a module as well as its parameters.
TEST(WholeModules, MayComeWithTheModelsBuffers) {
  struct Positions : Module {
    Embedding table = register_module("table", Embedding(5, 3));
    at::Tensor ids = register_buffer("position_ids", at::arange(5).view({1, 5}));
  };
  struct Model : Module {
    std::shared_ptr<Positions> positions =
        register_module("positions", std::make_shared<Positions>());
    Linear head = register_module("head", Linear(3, 2));
  } model;
  const TemporaryFolder folder;
  const LoraConfig config = {.target_modules = {"head"}, .modules_to_save = {"positions"}};
  auto adapter = attach(model, config);
  adapter.save(folder / "a");
  adapter.detach();
  const auto path = folder / "a" / "adapter_model.safetensors";
  const auto file = SafetensorsFile::open(path);
  std::vector<SafetensorsEntry> entries;
  for (const auto& name : file.names()) entries.push_back({name, file.tensor(name).clone()});
  entries.push_back({"base_model.model.positions.position_ids", at::arange(5).view({1, 5})});
  write_safetensors(path, entries);
  load_adapter(model, folder / "a").adapter.detach();
  entries.back().tensor = at::arange(1, 6).view({1, 5});
  write_safetensors(path, entries);
  LOWRANK_EXPECT_ERROR(load_adapter(model, folder / "a"), FileError,
                       "must be the model's \"positions.position_ids\"");
  entries.back().name = "base_model.model.head.position_ids";
  write_safetensors(path, entries);
  LOWRANK_EXPECT_ERROR(load_adapter(model, folder / "a"), FileError, "must hold only the tensors");
}

}  // namespace
}  // namespace lowrank
