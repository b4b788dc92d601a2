#include <gtest/gtest.h>
#include <lowrank/adapter/adapter.h>
#include <lowrank/error.h>
#include <lowrank/optim/adam.h>
#include <torch/nn/modules/conv.h>
#include <torch/nn/modules/embedding.h>
#include <torch/nn/modules/linear.h>

#include <limits>
#include <map>

#include "support/expect_error.h"

// LoRA+: which parameter is trained with which learning rate.
namespace lowrank {
namespace {

namespace nn = torch::nn;

struct GroupedNet : nn::Module {
  nn::Embedding tokens{register_module("tokens", nn::Embedding(11, 6))};
  nn::Conv1d mix{register_module("mix", nn::Conv1d(6, 8, 3))};
  nn::Linear head{register_module("head", nn::Linear(8, 5))};
};

std::map<std::string, double> rates(const Adapter& adapter,
                                    const std::vector<ParameterGroup>& groups) {
  std::map<std::string, double> rates;
  for (const auto& [name, tensor] : adapter.named_parameters()) {
    for (const auto& group : groups) {
      for (const auto& own : group.parameters) {
        if (!own.is_same(tensor)) continue;
        EXPECT_FALSE(rates.contains(name)) << name << " twice";
        rates[name] = group.learning_rate;
      }
    }
  }
  return rates;
}

/// The groups are those of PEFT's create_loraplus_optimizer, which puts the magnitude of a
/// convolution (1, 8, 1) into the group of A.
TEST(ParameterGroups, AreLoraPlus) {
  GroupedNet net;
  const auto adapter = attach(net, {.rank = 2,
                                    .target_modules = {"tokens", "mix"},
                                    .modules_to_save = {"head"},
                                    .bias = BiasMode::kLoraOnly,
                                    .use_dora = true});
  const std::map<std::string, double> expected = {{"tokens.lora_embedding_A", 1e-6},
                                                  {"tokens.lora_embedding_B", 1e-6},
                                                  {"tokens.lora_magnitude_vector", 8e-3},
                                                  {"mix.lora_A.weight", 5e-4},
                                                  {"mix.lora_B.weight", 8e-3},
                                                  {"mix.lora_magnitude_vector", 5e-4},
                                                  {"mix.base_layer.bias", 8e-3},
                                                  {"head.weight", 5e-4},
                                                  {"head.bias", 8e-3}};
  const auto groups = adapter.parameter_groups(5e-4, 16);
  EXPECT_EQ(rates(adapter, groups), expected);
  EXPECT_EQ(adapter.parameters().size(), expected.size());
}

TEST(ParameterGroups, LeaveEmptyOnesOut) {
  GroupedNet net;
  const auto adapter = attach(net, {.rank = 2, .target_modules = {"head"}});
  const auto groups = adapter.parameter_groups(0.5, 4);
  ASSERT_EQ(groups.size(), 2);
  EXPECT_EQ(groups[0].learning_rate, 0.5);
  EXPECT_EQ(groups[1].learning_rate, 2);
}

TEST(ParameterGroups, RefuseRatesThatCannotBe) {
  GroupedNet net;
  const auto adapter = attach(net, {.rank = 2, .target_modules = {"head"}});
  LOWRANK_EXPECT_ERROR(adapter.parameter_groups(0, 4), ArgumentError,
                       "[parameter_groups] the learning rate must be finite and above 0. Got 0.");
  LOWRANK_EXPECT_ERROR(adapter.parameter_groups(1, -1), ArgumentError,
                       "the ratio of B's learning rate to A's must be finite and above 0. Got -1.");
  LOWRANK_EXPECT_ERROR(adapter.parameter_groups(1, 1, std::numeric_limits<double>::quiet_NaN()),
                       ArgumentError,
                       "the learning rate of embeddings must be finite and above 0. Got nan.");
}

}  // namespace
}  // namespace lowrank
