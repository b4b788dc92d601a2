#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <lowrank/io/safetensors.h>

#include <nlohmann/json.hpp>
#include <string>

#include "support/refusals.h"
#include "support/tiny_models.h"

namespace lowrank {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;
namespace fs = std::filesystem;

uintmax_t bytes_of(const fs::path& folder, std::initializer_list<const char*> names) {
  uintmax_t bytes = 0;
  for (const char* name : names) bytes += fs::file_size(folder / name);
  return bytes;
}

class InfoCommand : public ::testing::Test {
 protected:
  const TemporaryFolder folder_;
  const std::string base_ = save_tiny_base(folder_ / "base");
  const std::string adapter_ = save_tiny_adapter(base_, folder_ / "two");
};

TEST_F(InfoCommand, TellsOfAnAdapter) {
  const auto results = run_each({{"info", adapter_, "--json"}, {"info", adapter_}});
  ASSERT_EQ(results[0].status, 0) << results[0].err;
  const auto json = nlohmann::json::parse(results[0].out);
  EXPECT_EQ(json.at("kind"), "adapter");
  EXPECT_EQ(json.at("rank"), 2);
  EXPECT_EQ(json.at("alpha"), 4);
  EXPECT_EQ(json.at("scaling"), 2);
  EXPECT_EQ(json.at("base_model_name_or_path"), base_);
  const auto classifier = models::load_classifier(base_);
  EXPECT_EQ(json.at("base_sha256"), base_fingerprint(*classifier.model));
  EXPECT_EQ(json.at("bytes"),
            bytes_of(adapter_, {"adapter_model.safetensors", "adapter_config.json"}));
  ASSERT_EQ(json.at("layers").size(), 2);
  const auto layer = json.at("layers")[0];
  EXPECT_EQ(layer.at("name"), "linear1");
  EXPECT_EQ(layer.at("in"), 16);
  EXPECT_EQ(layer.at("out"), 8);
  EXPECT_EQ(layer.at("parameters"), 2 * (16 + 8));
  const auto file = SafetensorsFile::open(fs::path(adapter_) / "adapter_model.safetensors");
  const auto a = file.tensor("base_model.model.linear1.lora_A.weight").to(at::kDouble);
  const auto b = file.tensor("base_model.model.linear1.lora_B.weight").to(at::kDouble);
  EXPECT_NEAR(layer.at("norm_a"), a.norm().item<double>(), 1e-12);
  EXPECT_NEAR(layer.at("norm_b"), b.norm().item<double>(), 1e-12);
  EXPECT_NEAR(layer.at("norm_update"), 2 * b.mm(a).norm().item<double>(), 1e-9);

  EXPECT_THAT(results[1].out,
              AllOf(HasSubstr("LoRA adapter: rank 2, alpha 4, scaling 2"), HasSubstr(base_),
                    HasSubstr("(2, 16)"), HasSubstr("84 parameters in 2 layers.")));
}

TEST_F(InfoCommand, TellsOfAModel) {
  const auto results = run_each({{"info", base_, "--json"}, {"info", base_}});
  ASSERT_EQ(results[0].status, 0) << results[0].err;
  const auto json = nlohmann::json::parse(results[0].out);
  EXPECT_EQ(json.at("kind"), "model");
  EXPECT_EQ(json.at("parameters"), 16 * 8 + 8 + 8 * 10 + 10);
  EXPECT_EQ(json.at("config").at("sizes"), (std::vector<int64_t>{16, 8, 10}));
  EXPECT_EQ(json.at("tensors").size(), 4);
  EXPECT_EQ(json.at("bytes"), bytes_of(base_, {"model.safetensors", "config.json"}));
  EXPECT_THAT(results[1].out, AllOf(HasSubstr("linear1.weight"), HasSubstr("(8, 16)"),
                                    HasSubstr("226 parameters.")));
}

TEST_F(InfoCommand, RefusesWhatIsNeither) {
  const auto broken = save_tiny_adapter(base_, folder_ / "broken");
  folder_.write("broken/adapter_config.json", "{\"r\": 2, \"r\": 3}");
  const auto lacking = save_tiny_adapter(base_, folder_ / "lacking");
  folder_.write("lacking/adapter_config.json", "{\"r\": 2}");
  const auto file = folder_.write("file", "x").string();
  expect_refusals({
      {{"info"}, 2, "folder is required"},
      {{"info", (folder_ / "none").string()},
       1,
       "must hold an adapter_config.json or a config.json. Got neither in"},
      {{"info", file}, 1, "must hold an adapter_config.json or a config.json"},
      {{"info", broken}, 1, "Got the key \"r\" twice."},
      {{"info", lacking}, 1, "must hold a number lora_alpha. Got none."},
  });
}

TEST_F(InfoCommand, NamesTheFieldOfAWrongType) {
  folder_.write("two/adapter_config.json", R"({"r": 2, "lora_alpha": 2, "use_rslora": "yes"})");
  const auto result = run_lowrank({"info", adapter_});
  EXPECT_EQ(result.status, 1);
  EXPECT_THAT(result.err, AllOf(HasSubstr("adapter_config.json"), HasSubstr("use_rslora"),
                                Not(HasSubstr("json.exception"))));
}

}  // namespace
}  // namespace lowrank
