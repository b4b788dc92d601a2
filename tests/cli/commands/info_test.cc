#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <lowrank/checkpoint/checkpoint.h>
#include <lowrank/io/safetensors.h>
#include <lowrank/linalg/spectrum.h>

#include <cmath>
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
  const auto classifier = app::load_mlp(base_);
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

TEST_F(InfoCommand, GivesTheConfigInPeftsWords) {
  const auto result = run_lowrank({"info", adapter_, "--json"});
  ASSERT_EQ(result.status, 0) << result.err;
  const auto config = nlohmann::json::parse(result.out).at("config");
  EXPECT_EQ(config.at("r"), 2);
  EXPECT_EQ(config.at("lora_alpha"), 4);
  EXPECT_EQ(config.at("init_lora_weights"), true);
  for (const char* field : {"use_rslora", "use_dora", "lora_dropout", "layers_to_transform",
                            "trainable_token_indices", "target_modules", "task_type"}) {
    EXPECT_TRUE(config.contains(field)) << field;
  }
}

TEST_F(InfoCommand, ScalesEachLayerByItsOwnRankAndAlpha) {
  const auto config = folder_ / "two" / "adapter_config.json";
  auto json = nlohmann::json::parse(read_bytes(config));
  json["rank_pattern"] = {{"linear1", 2}};
  json["alpha_pattern"] = {{"linear2", 20}};
  json["r"] = 8;
  json["use_rslora"] = true;
  folder_.write("two/adapter_config.json", json.dump());
  const auto file = SafetensorsFile::open(folder_ / "two" / "adapter_model.safetensors");
  const auto results = run_each({{"info", adapter_, "--json"}, {"info", adapter_}});
  ASSERT_EQ(results[0].status, 0) << results[0].err;
  const auto layers = nlohmann::json::parse(results[0].out).at("layers");
  const auto expect_scaled = [&](size_t i, double scaling) {
    const auto key = "base_model.model." + layers[i].at("name").get<std::string>();
    const auto a = file.tensor(key + ".lora_A.weight").to(at::kDouble);
    const auto b = file.tensor(key + ".lora_B.weight").to(at::kDouble);
    EXPECT_NEAR(layers[i].at("scaling"), scaling, 1e-12);
    EXPECT_NEAR(layers[i].at("norm_update"), scaling * b.mm(a).norm().item<double>(), 1e-9);
  };
  expect_scaled(0, 4 / std::sqrt(2));
  expect_scaled(1, 20 / std::sqrt(8));
  EXPECT_THAT(results[1].out, HasSubstr("rank 8 (layers: 2), alpha 4, scaling 1.41421, rsLoRA\n"));
}

/// The factors of a convolution have the dimensions of its kernel, and those of an embedding have
/// other names. Tensors that are not factors are counted, too.
TEST_F(InfoCommand, TellsOfEveryKindOfLayer) {
  const auto a = at::randn({2, 3, 3, 3}), b = at::randn({4, 2, 1, 1});
  const std::string prefix = "base_model.model.";
  write_safetensors(folder_ / "two" / "adapter_model.safetensors",
                    {{prefix + "conv.lora_A.weight", a},
                     {prefix + "conv.lora_B.weight", b},
                     {prefix + "emb.lora_embedding_A", at::ones({2, 10})},
                     {prefix + "emb.lora_embedding_B", at::ones({4, 2})},
                     {prefix + "head.bias", at::ones({7})}});
  const auto results = run_each({{"info", adapter_, "--json"}, {"info", adapter_}});
  ASSERT_EQ(results[0].status, 0) << results[0].err;
  const auto layers = nlohmann::json::parse(results[0].out).at("layers");
  ASSERT_EQ(layers.size(), 2);
  const auto product = b.flatten(1).to(at::kDouble).mm(a.flatten(1).to(at::kDouble));
  EXPECT_NEAR(layers[0].at("norm_update"), 2 * product.norm().item<double>(), 1e-9);
  EXPECT_NEAR(layers[1].at("norm_update"), 2 * 2 * std::sqrt(40), 1e-9);
  EXPECT_THAT(results[1].out,
              AllOf(HasSubstr("(2, 3, 3, 3)"), HasSubstr("(4, 2, 1, 1)"), HasSubstr("(2, 10)"),
                    HasSubstr("90 parameters in 2 layers.\n7 more in other tensors")));
}

TEST_F(InfoCommand, RefusesARankThatIsNone) {
  for (const char* rank : {"0", "-3", "1e300"}) {
    auto json = nlohmann::json::parse(read_bytes(folder_ / "two" / "adapter_config.json"));
    json["r"] = nlohmann::json::parse(rank);
    folder_.write("two/adapter_config.json", json.dump());
    expect_refusals({{{"info", adapter_}, 1, "adapter_config.json"}});
  }
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
                                    HasSubstr("226 parameters, ")));
}

TEST_F(InfoCommand, DecomposesTheWeightsOfAModel) {
  const auto file = (folder_ / "base" / "model.safetensors").string();
  const auto results = run_each({{"info", base_, "--spectrum", "--json"},
                                 {"info", file, "--spectrum"},
                                 {"info", file, "--json"}});
  for (const auto& result : results) ASSERT_EQ(result.status, 0) << result.err;
  const auto json = nlohmann::json::parse(results[0].out);
  const auto checkpoint = Checkpoint::open(base_);
  for (const auto& tensor : json.at("tensors")) {
    const auto name = tensor.at("name").get<std::string>();
    EXPECT_EQ(tensor.contains("spectrum"), name.ends_with("weight")) << name;
    if (!tensor.contains("spectrum")) continue;
    const auto expected = spectrum(checkpoint.tensor(name));
    EXPECT_NEAR(tensor.at("spectrum").at("largest"), expected.largest, 1e-12);
    EXPECT_EQ(tensor.at("spectrum").at("numerical_rank"), expected.numerical_rank);
  }
  EXPECT_THAT(results[1].out,
              AllOf(HasSubstr("linear1.weight"), HasSubstr("stable"), HasSubstr("226 parameters")));
  const auto plain = nlohmann::json::parse(results[2].out);
  EXPECT_EQ(plain.at("tensors").size(), 4);
  EXPECT_FALSE(plain.contains("config"));
  EXPECT_FALSE(plain.at("tensors")[0].contains("spectrum"));
}

TEST_F(InfoCommand, DecomposesTheUpdatesOfAnAdapter) {
  const auto results =
      run_each({{"info", adapter_, "--spectrum", "--json"}, {"info", adapter_, "--spectrum"}});
  ASSERT_EQ(results[0].status, 0) << results[0].err;
  const auto json = nlohmann::json::parse(results[0].out);
  for (const auto& layer : json.at("layers")) {
    EXPECT_EQ(layer.at("spectrum").at("numerical_rank"), 2);
    EXPECT_NEAR(layer.at("spectrum").at("norm"), layer.at("norm_update"), 1e-9);
  }
  EXPECT_THAT(results[1].out,
              AllOf(HasSubstr("Spectra of the updates s B A:"), HasSubstr("effective")));
}

TEST_F(InfoCommand, TellsOfShardsWithoutAConfig) {
  const auto x = at::ones({2, 3});
  write_safetensors(folder_ / "m" / "a.safetensors", {{"x", x}});
  write_safetensors(folder_ / "m" / "b.safetensors", {{"y", x}});
  folder_.write("m/model.safetensors.index.json",
                R"({"weight_map": {"x": "a.safetensors", "y": "b.safetensors"}})");
  const auto result = run_lowrank({"info", (folder_ / "m").string(), "--json"});
  ASSERT_EQ(result.status, 0) << result.err;
  const auto json = nlohmann::json::parse(result.out);
  EXPECT_EQ(json.at("parameters"), 12);
  EXPECT_EQ(json.at("tensors")[1].at("name"), "y");
}

TEST_F(InfoCommand, RefusesWhatIsNeither) {
  const auto broken = save_tiny_adapter(base_, folder_ / "broken");
  folder_.write("broken/adapter_config.json", "{\"r\": 2, \"r\": 3}");
  const auto lacking = save_tiny_adapter(base_, folder_ / "lacking");
  folder_.write("lacking/adapter_config.json", "{\"r\": 2}");
  const auto file = folder_.write("file", "x").string();
  expect_refusals({
      {{"info"}, 2, "folder is required"},
      {{"info", (folder_ / "none").string()}, 1, "[load] there must be a folder"},
      {{"info", file}, 1, "(safetensors, GGUF, .npy, TorchScript). Got another kind of file."},
      {{"info", broken}, 1, "Got the key \"r\" twice."},
      {{"info", lacking}, 1, "must hold a number lora_alpha. Got none."},
  });
}

TEST_F(InfoCommand, NamesTheFieldOfAWrongType) {
  folder_.write("two/adapter_config.json",
                R"({"peft_type": "LORA", "target_modules": ["linear1"], "r": 2, "lora_alpha": 2,
                      "use_rslora": "yes"})");
  const auto result = run_lowrank({"info", adapter_});
  EXPECT_EQ(result.status, 1);
  EXPECT_THAT(result.err, AllOf(HasSubstr("adapter_config.json"), HasSubstr("use_rslora"),
                                Not(HasSubstr("json.exception"))));
}

}  // namespace
}  // namespace lowrank
