#include <caffe2/serialize/inline_container.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <nlohmann/json.hpp>
#include <string>

#include "support/refusals.h"
#include "support/tiny_models.h"

namespace lowrank {
namespace {

const std::string kScripted = LOWRANK_FIXTURES "/scripted.pt";
const std::string kTraced = LOWRANK_FIXTURES "/traced.pt";
const std::string kTied = LOWRANK_FIXTURES "/scripted_tied.pt";

/// Writes the fixture with `before` in front of what its forward returns.
std::string write_deep_script(const TemporaryFolder& folder, const std::string& name,
                              const std::string& before) {
  caffe2::serialize::PyTorchStreamReader reader(kScripted);
  const auto path = (folder / name).string();
  caffe2::serialize::PyTorchStreamWriter writer(path);
  for (const auto& record : reader.getAllRecords()) {
    const auto [data, size] = reader.getRecord(record);
    std::string bytes(static_cast<const char*>(data.get()), size);
    const auto at = record.ends_with(".py") ? bytes.find("return ") : std::string::npos;
    if (at != std::string::npos) bytes.insert(at + std::strlen("return "), before);
    const bool is_own = record == "version" || record.starts_with(".data/");  // the writer's
    if (!is_own) writer.writeRecord(record, bytes.data(), bytes.size());
  }
  writer.writeEndOfFile();
  return path;
}

class TargetsCommand : public ::testing::Test {
 protected:
  const TemporaryFolder folder_;
  const std::string base_ = save_tiny_base(folder_ / "base");
};

TEST_F(TargetsCommand, ShowsTheLayersOfAModelFolder) {
  const auto results = run_each({{"targets", base_, "--rank", "2", "--alpha", "0.5"},
                                 {"targets", base_, "--rank", "2", "--rslora", "--json"}});
  EXPECT_EQ(results[0].status, 0) << results[0].err;
  EXPECT_EQ(results[0].out,
            "layer      kind    shape  rank  alpha  parameters  of the weight\n"
            "linear1  Linear  (8, 16)     2    0.5          48        37.50 %\n"
            "linear2  Linear  (10, 8)     2    0.5          36        45.00 %\n"
            "84 parameters to train, 37.17 % of the model's 226.\n");
  const auto json = nlohmann::json::parse(results[1].out);
  EXPECT_EQ(json.at("layers")[1].at("name"), "linear2");
  EXPECT_EQ(json.at("layers")[1].at("shape"), (std::vector<int64_t>{10, 8}));
  EXPECT_DOUBLE_EQ(json.at("layers")[1].at("scaling"), 2 / std::sqrt(2.0));
  EXPECT_DOUBLE_EQ(json.at("layers")[1].at("share"), 36.0 / 80);
  EXPECT_EQ(json.at("trained_parameters"), 84);
  EXPECT_EQ(json.at("model_parameters"), 226);
}

TEST_F(TargetsCommand, ShowsTheLayersOfTorchScript) {
  const std::vector<std::string> flags = {
      "--target-modules", "embedding,conv,lstm,head",   "--rank", "4",
      "--rank-pattern",   R"(lstm\..{1,20}=2,head=16)", "--json"};
  std::vector<std::vector<std::string>> commands;
  for (const auto& file : {kScripted, kTraced}) {
    commands.push_back({"targets", file});
    commands.back().insert(commands.back().end(), flags.begin(), flags.end());
  }
  for (const auto& result : run_each(commands)) {
    ASSERT_EQ(result.status, 0) << result.err;
    const auto json = nlohmann::json::parse(result.out);
    std::vector<std::string> rows;
    for (const auto& layer : json.at("layers")) {
      rows.push_back(fmt::format("{} {} {} {}", layer.at("name").get<std::string>(),
                                 layer.at("kind").get<std::string>(), layer.at("rank").get<int>(),
                                 layer.at("parameters").get<int>()));
    }
    // conv: A is (4, 8, 3), B (6, 4 / 2, 1).
    EXPECT_THAT(rows, ::testing::ElementsAre("embedding Embedding 4 76", "conv Conv1d 4 108",
                                             "lstm.weight_ih_l0 LSTM 2 52",
                                             "lstm.weight_hh_l0 LSTM 2 50", "head Linear 16 128"));
  }
}

TEST_F(TargetsCommand, CountsWhatIsTrainedBesideTheFactors) {
  const auto results =
      run_each({{"targets", kTied, "--rank", "1", "--dora", "--modules-to-save", "score", "--json"},
                {"targets", kScripted, "--target-modules", "head", "--rank", "1", "--bias",
                 "lora_only", "--lora-bias", "--json"}});
  const auto tied = nlohmann::json::parse(results[0].out);
  EXPECT_EQ(tied.at("layers").size(), 1);  // neither the tied decoder nor the score
  EXPECT_EQ(tied.at("layers")[0].at("kind"), "Conv1D");
  EXPECT_EQ(tied.at("layers")[0].at("parameters"), 4 + 4 + 4);
  EXPECT_EQ(tied.at("whole")[0].at("name"), "score.weight");
  EXPECT_EQ(tied.at("trained_parameters"), 12 + 14);
  EXPECT_EQ(tied.at("model_parameters"),
            7 * 4 + (4 * 4 + 4) + 7 * 2);  // the tied weight counts once
  const auto head = nlohmann::json::parse(results[1].out);
  EXPECT_EQ(head.at("trained_parameters"), (5 + 3 + 3) + 3);
}

TEST_F(TargetsCommand, StartsFromAConfigAndItsFlagsOverrideIt) {
  const auto config = folder_
                          .write("adapter_config.json", R"({"peft_type": "LORA", "r": 3,
    "target_modules": ["linear1"], "rank_pattern": {"linear1": 5}})")
                          .string();
  const auto results =
      run_each({{"targets", base_, "--config", config, "--json"},
                {"targets", base_, "--target-regex", "linear[12]", "--exclude-modules", "linear1",
                 "--config", config, "--rank-pattern", "linear2=7", "--json"}});
  const auto plain = nlohmann::json::parse(results[0].out);
  ASSERT_EQ(plain.at("layers").size(), 1);
  EXPECT_EQ(plain.at("layers")[0].at("rank"), 5);
  const auto overridden = nlohmann::json::parse(results[1].out);
  ASSERT_EQ(overridden.at("layers").size(), 1);
  EXPECT_EQ(overridden.at("layers")[0].at("name"), "linear2");
  EXPECT_EQ(overridden.at("layers")[0].at("rank"), 7);
}

TEST_F(TargetsCommand, RefusesWhatDoesNotFit) {
  const auto text = folder_.write("model.pt", "no archive").string();
  const auto cut = folder_.write("cut.pt", read_bytes(kTraced).substr(0, 3000)).string();
  const auto config = folder_.write("c.json", R"({"peft_type": "LORA", "r": "x"})").string();
  expect_refusals({
      {{"targets"}, 2, "model is required"},
      {{"targets", (folder_ / "none").string()}, 1, "must be a model folder or a TorchScript file"},
      {{"targets", text}, 1, "must be a TorchScript file. Got a file that is not a zip archive."},
      {{"targets", "/dev/zero"}, 1, "must be a TorchScript file. Got a pipe or device."},
      {{"targets", cut}, 1, "must be a TorchScript file. Got PytorchStreamReader failed"},
      {{"targets", base_, "--config", config}, 1, "must hold a whole number as r. Got \"x\"."},
      {{"targets", base_, "--target-modules", "linaer1"}, 2, "Did you mean \"linear1\"?"},
      {{"targets", base_, "--target-regex", "lin("}, 2, "wrong at character 5"},
      {{"targets", base_, "--target-modules", "a", "--target-regex", "b"}, 2, "excludes"},
      {{"targets", base_, "--layers", "0"}, 2, "for a model without numbered layers"},
      {{"targets", base_, "--rank-pattern", "linear1"},
       2,
       "--rank-pattern must be NAME=NUMBER,.... Got \"linear1\"."},
      {{"targets", base_, "--rank-pattern", "linear1=1.5"}, 2, "must be whole numbers. Got 1.5."},
      {{"targets", base_, "--alpha-pattern", "linaer1=2"}, 2, "each key of --alpha-pattern"},
      {{"targets", base_, "--init", "pisa"}, 2, "Did you mean \"pissa\"?"},
      {{"targets", base_, "--bias", "some"}, 2, "bias must be one of none, all, lora_only"},
      {{"targets", base_, "--dropout", "1"}, 2, "--dropout must be at least 0 and below 1"},
      {{"targets", base_, "--target-modules", "q_proj"},
       2,
       "each of --target-modules must match a layer. Got \"q_proj\""},
  });
}

/// LibTorch reads code recursively, so each of these uses its stack up.
TEST_F(TargetsCommand, RefusesCodeThatNestsTooDeeply) {
  std::vector<std::vector<std::string>> commands = {
      {"targets", write_deep_script(folder_, "as_it_is.pt", "")}};
  std::string brackets(200'000, '('), minus, negations;
  for (int i = 0; i < 200'000; ++i) {
    minus += "- ";
    negations += "not ";
  }
  int number = 0;
  for (const auto& before : {brackets, minus, negations}) {
    const auto name = fmt::format("deep{}.pt", number++);
    commands.push_back({"targets", write_deep_script(folder_, name, before)});
  }
  const auto results = run_each(commands);
  EXPECT_EQ(results[0].status, 0) << results[0].err;
  for (size_t i = 1; i < results.size(); ++i) {
    EXPECT_EQ(results[i].status, 1) << i;
    EXPECT_THAT(results[i].err, testing::HasSubstr("must not nest its code or data too deeply"));
  }
}

}  // namespace
}  // namespace lowrank
