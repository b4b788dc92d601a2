#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <lowrank/adapter/inspect.h>
#include <lowrank/error.h>
#include <lowrank/io/safetensors.h>

#include <cmath>
#include <string>

#include "support/expect_error.h"
#include "support/temporary_folder.h"

namespace lowrank {
namespace {

constexpr const char* kConfig =
    R"({"peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": ["query", "conv"],
        "rank_pattern": {"conv": 3}, "alpha_pattern": {"encoder.query": 1}, "task_type": "X",
        "base_model_name_or_path": "some/base"})";

/// A folder with a linear layer, a convolution and a bias.
class InspectAdapter : public testing::Test {
 protected:
  void SetUp() override {
    at::manual_seed(0);
    folder_.write("adapter_config.json", kConfig);
    write({{"base_model.model.encoder.query.lora_A.weight", a_},
           {"base_model.model.encoder.query.lora_B.weight", b_},
           {"base_model.model.conv.lora_A.weight", at::ones({3, 4, 5})},
           {"base_model.model.conv.lora_B.weight", at::ones({6, 3, 1})},
           {"base_model.model.head.bias", at::ones({7})}});
  }

  void write(const std::vector<SafetensorsEntry>& entries) {
    write_safetensors(folder_ / "adapter_model.safetensors", entries,
                      {{"lowrank.base_sha256", "abc"}});
  }

  TemporaryFolder folder_;
  at::Tensor a_ = at::randn({2, 8}), b_ = at::randn({5, 2});
};

TEST_F(InspectAdapter, GivesTheConfigAndWhereItIsFrom) {
  const auto adapter = inspect_adapter(folder_.path());
  EXPECT_EQ(adapter.config.rank, 2);
  EXPECT_EQ(adapter.config.alpha, 4);
  EXPECT_EQ(adapter.config.target_modules, (ModuleSelector{"query", "conv"}));
  EXPECT_EQ(adapter.base_model, "some/base");
  EXPECT_EQ(adapter.base_sha256, "abc");
  EXPECT_EQ(adapter.parameters, 16 + 10 + 60 + 18 + 7);
}

TEST_F(InspectAdapter, GivesEachLayerItsOwnScalingAndNorms) {
  const auto layers = inspect_adapter(folder_.path()).layers;
  ASSERT_EQ(layers.size(), 2U);
  const auto& conv = layers[0].name == "conv" ? layers[0] : layers[1];
  const auto& query = layers[0].name == "conv" ? layers[1] : layers[0];
  EXPECT_EQ(query.name, "encoder.query");
  EXPECT_EQ(query.rank(), 2);
  EXPECT_EQ(query.parameters(), 26);
  EXPECT_DOUBLE_EQ(query.scaling, 1.0 / 2);
  const auto update = b_.to(at::kDouble).mm(a_.to(at::kDouble)) * query.scaling;
  EXPECT_NEAR(query.norm_update, update.norm().item<double>(), 1e-12);
  EXPECT_NEAR(query.norm_a, a_.to(at::kDouble).norm().item<double>(), 1e-12);
  EXPECT_DOUBLE_EQ(conv.scaling, 4.0 / 3);
  EXPECT_EQ(conv.shape_a, (std::vector<int64_t>{3, 4, 5}));
  EXPECT_NEAR(conv.norm_update, 4.0 / 3 * 3 * std::sqrt(6 * 20), 1e-12);
}

TEST_F(InspectAdapter, GivesTheSpectrumOfEachUpdate) {
  const auto layers = inspect_adapter(folder_.path()).layers;
  const auto spectra = adapter_spectra(folder_.path());
  ASSERT_EQ(spectra.size(), layers.size());
  for (size_t i = 0; i < layers.size(); ++i) {
    const bool is_conv = layers[i].name == "conv";
    const auto update = is_conv ? at::full({6, 20}, 4.0, at::kDouble)
                                : b_.to(at::kDouble).mm(a_.to(at::kDouble)) / 2;
    const auto expected = spectrum(update);
    EXPECT_NEAR(spectra[i].largest, expected.largest, 1e-12 * expected.largest);
    EXPECT_NEAR(spectra[i].norm, layers[i].norm_update, 1e-12 * expected.largest);
    EXPECT_NEAR(spectra[i].stable_rank, expected.stable_rank, 1e-9);
    EXPECT_EQ(spectra[i].numerical_rank, is_conv ? 1 : 2);
    EXPECT_EQ(spectra[i].rank_99, expected.rank_99);
  }
}

/// Old files and other programs write the adapter's name into the keys.
TEST_F(InspectAdapter, ReadsNamesWithTheAdaptersOwn) {
  write({{"base_model.model.encoder.query.lora_A.default.weight", a_},
         {"base_model.model.encoder.query.lora_B.default.weight", b_}});
  const auto layers = inspect_adapter(folder_.path()).layers;
  ASSERT_EQ(layers.size(), 1U);
  EXPECT_EQ(layers[0].name, "encoder.query");
}

/// The r x r products of such a file would take gigabytes.
TEST_F(InspectAdapter, ALargeRankTakesLittleMemory) {
  const auto a = at::randn({60'000, 1}), b = at::randn({2, 60'000});
  write({{"base_model.model.encoder.query.lora_A.weight", a},
         {"base_model.model.encoder.query.lora_B.weight", b}});
  const auto layer = inspect_adapter(folder_.path()).layers.at(0);
  EXPECT_NEAR(layer.norm_update / layer.scaling,
              b.to(at::kDouble).mm(a.to(at::kDouble)).norm().item<double>(), 1e-6);
}

TEST_F(InspectAdapter, RefusesFactorsOfWholeNumbersAndKernelsOnB) {
  write({{"base_model.model.conv.lora_A.weight", at::ones({2, 4}, at::kChar)},
         {"base_model.model.conv.lora_B.weight", at::ones({6, 2}, at::kChar)}});
  LOWRANK_EXPECT_ERROR(inspect_adapter(folder_.path()), FileError,
                       "must be floating-point matrices of one rank. Got A Char of shape (2, 4)");
  write({{"base_model.model.conv.lora_A.weight", at::ones({2, 4, 2, 2})},
         {"base_model.model.conv.lora_B.weight", at::ones({8, 2, 2})}});
  LOWRANK_EXPECT_ERROR(inspect_adapter(folder_.path()), FileError, "B Float of shape (8, 2, 2)");
}

TEST_F(InspectAdapter, NamesTheFileOfAWrongPattern) {
  std::string patterns;
  for (int i = 0; i < 501; ++i)
    patterns += (i > 0 ? ", \"a+" : "\"a+") + std::to_string(i) + "\": 1";
  folder_.write("adapter_config.json",
                R"({"peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": ["query"],
                    "rank_pattern": {)" +
                    patterns + "}}");
  LOWRANK_EXPECT_ERROR(inspect_adapter(folder_.path()), FileError, "adapter_config.json");
}

TEST_F(InspectAdapter, RefusesWhatIsNoPair) {
  write({{"base_model.model.encoder.query.lora_A.weight", a_}});
  LOWRANK_EXPECT_ERROR(inspect_adapter(folder_.path()), FileError, "encoder.query.lora_B.weight");
  write({{"base_model.model.encoder.query.lora_A.weight", a_},
         {"base_model.model.encoder.query.lora_B.weight", at::ones({5, 3})}});
  LOWRANK_EXPECT_ERROR(inspect_adapter(folder_.path()), FileError,
                       "the factors of \"encoder.query\" must be floating-point matrices of one "
                       "rank. Got A Float of shape (2, 8) and B Float of shape (5, 3).");
  folder_.write("adapter_config.json", R"({"peft_type": "LORA", "r": 2})");
  LOWRANK_EXPECT_ERROR(inspect_adapter(folder_.path()), FileError,
                       "must hold a number lora_alpha. Got none.");
}

}  // namespace
}  // namespace lowrank
