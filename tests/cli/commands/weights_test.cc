// Covers cli/commands/weights.
#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <lowrank/io/safetensors.h>

#include <chrono>
#include <csignal>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "support/refusals.h"
#include "support/running_command.h"
#include "support/tiny_models.h"

namespace lowrank {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using Json = nlohmann::json;

class WeightsCommands : public ::testing::Test {
 protected:
  /// The base with a difference of rank 2 in linear1, and another bias of linear2.
  std::string save_tuned() {
    const auto file = SafetensorsFile::open(folder_ / "base" / "model.safetensors");
    std::vector<SafetensorsEntry> entries;
    for (const auto& name : file.names()) {
      auto tensor = file.tensor(name).clone();
      if (name == "linear1.weight") tensor += at::randn({8, 2}).mm(at::randn({2, 16}));
      if (name == "linear2.bias") tensor += 1;
      entries.push_back({name, tensor});
    }
    const auto path = folder_ / "tuned.safetensors";
    write_safetensors(path, entries);
    return path.string();
  }
  std::string at(const std::string& name) const { return (folder_ / name).string(); }

  const TemporaryFolder folder_;
  const std::string base_ = save_tiny_base(folder_ / "base");
  const std::string tuned_ = save_tuned();
};

TEST_F(WeightsCommands, ExtractAnAdapterAndResizeIt) {
  const auto made = run_lowrank({"extract", base_, tuned_, "--max-error", "1e-4", "--whole", "skip",
                                 "--out", at("a"), "--json"});
  ASSERT_EQ(made.status, 0) << made.err;
  const auto json = Json::parse(made.out);
  EXPECT_EQ(json.at("layers").size(), 1);
  EXPECT_EQ(json.at("layers")[0].at("rank"), 2);
  EXPECT_LE(json.at("total").at("relative_frobenius"), 1e-4);
  EXPECT_EQ(json.at("skipped"), Json::array({"linear2.bias"}));
  EXPECT_EQ(Json::parse(read_bytes(folder_ / "a" / "lowrank_report.json")), json);

  const auto resized = run_lowrank({"resize", at("a"), "--rank", "1", "--out", at("b")});
  ASSERT_EQ(resized.status, 0) << resized.err;
  EXPECT_THAT(resized.out, AllOf(HasSubstr("8 x 16  2 -> 1"), HasSubstr("ranks by --rank 1"),
                                 HasSubstr("Wrote " + at("b"))));
  const auto info = Json::parse(run_lowrank({"info", at("b"), "--json"}).out);
  EXPECT_EQ(info.at("rank"), 1);
  EXPECT_EQ(info.at("scaling"), 1);
}

TEST_F(WeightsCommands, MergeAnAdapterAndVerifyIt) {
  ASSERT_EQ(run_lowrank({"extract", base_, tuned_, "--rank", "2", "--out", at("a")}).status, 0);
  const auto merged = run_lowrank({"merge", base_, "--adapters", at("a"), "--out", at("m")});
  ASSERT_EQ(merged.status, 0) << merged.err;
  EXPECT_THAT(merged.out, AllOf(HasSubstr("linear1.weight"), HasSubstr("changed the updates by"),
                                HasSubstr("Wrote " + at("m"))));
  const auto compared = run_lowrank({"compare", at("m"), tuned_, "--json"});
  const auto json = Json::parse(compared.out);
  for (const auto& tensor : json.at("changed")) EXPECT_LE(tensor.at("relative"), 1e-5);
  EXPECT_EQ(json.at("only_base"), Json::array());
  const auto held = run_lowrank({"verify", base_, at("m"), "--adapters", at("a")});
  EXPECT_EQ(held.status, 0) << held.err;
  EXPECT_EQ(held.out, "All 4 tensors are those of the merge, bit for bit.\n");
  const auto other = run_lowrank({"verify", base_, base_, "--adapters", at("a"), "--json"});
  EXPECT_EQ(other.status, 1);
  EXPECT_EQ(Json::parse(other.out).at("wrong").size(), 2) << "a weight and a bias";
  EXPECT_THAT(other.err, HasSubstr("with the adapters merged into it. Got 2 tensors that differ."));
  const auto text = run_lowrank({"compare", base_, tuned_, "--spectrum"});
  EXPECT_THAT(text.out, AllOf(HasSubstr("linear1.weight  (8, 16)"),
                              HasSubstr("2 tensors changed, 2 equal.")));
  // The folder is still a model of `lowrank train`.
  EXPECT_EQ(run_lowrank({"info", at("m")}).status, 0);
}

/// An output in another folder may be an input all the same, by its name or by a link.
TEST_F(WeightsCommands, ReadTorchScript) {
  const std::string script = std::string(LOWRANK_FIXTURES) + "/scripted.pt";
  const auto info = Json::parse(run_lowrank({"info", script, "--json"}).out);
  const auto same = run_lowrank({"compare", script, script, "--json"});
  ASSERT_EQ(same.status, 0) << same.err;
  EXPECT_EQ(Json::parse(same.out).at("equal"), info.at("tensors").size());
  const auto merged = run_lowrank({"merge", script, "--adapters", at("a"), "--out", at("m")});
  EXPECT_EQ(merged.status, 1);
  EXPECT_THAT(merged.err, HasSubstr("must hold safetensors"));
}

/// A merge or an extraction that is killed at any moment leaves the old result or the new one, and
/// can go on.
TEST_F(WeightsCommands, SlowSurviveKills) {
  std::vector<SafetensorsEntry> base, tuned;
  for (int i = 0; i < 12; ++i) {
    const auto w = at::randn({700, 600});
    base.push_back({"layers." + std::to_string(i) + ".weight", w});
    tuned.push_back({base.back().name, w + at::randn({700, 2}).mm(at::randn({2, 600}))});
  }
  write_safetensors(folder_ / "b.safetensors", base);
  write_safetensors(folder_ / "t.safetensors", tuned);
  const auto run = [&](std::vector<std::string> words, const std::string& out, bool resume) {
    words.insert(words.end(), {"--threads", "1", "--out", at(out)});
    if (resume) words.emplace_back("--resume");
    return words;
  };
  const auto expect_survives = [&](const std::vector<std::string>& words, const std::string& whole,
                                   const std::string& file) {
    const auto begun = std::chrono::steady_clock::now();
    ASSERT_EQ(run_lowrank(run(words, whole, false)).status, 0);
    const auto taken = std::chrono::steady_clock::now() - begun;
    const auto file_in = [&](const std::string& out) {
      return file.empty() ? folder_ / out : folder_ / out / file;
    };
    const auto expected = read_bytes(file_in(whole));
    ASSERT_FALSE(expected.empty());
    for (int i = 1; i <= 12; ++i) {
      RunningCommand killed(run(words, "out", false));
      const auto end = std::chrono::steady_clock::now() + taken * i / 12;
      killed.stop(SIGKILL, [&] { return std::chrono::steady_clock::now() >= end; });
      if (!std::filesystem::exists(file_in("out"))) {
        const auto resumed = run_lowrank(run(words, "out", true));
        EXPECT_EQ(resumed.status, 0) << resumed.err;
      }
      EXPECT_EQ(read_bytes(file_in("out")), expected);
      std::filesystem::remove_all(folder_ / "out");
      std::filesystem::remove_all(folder_ / ".out.unfinished");
    }
  };
  expect_survives({"extract", at("b.safetensors"), at("t.safetensors"), "--rank", "2"}, "whole",
                  "adapter_model.safetensors");
  expect_survives({"merge", at("b.safetensors"), "--adapters", at("whole")}, "merged.safetensors",
                  "");
}

TEST_F(WeightsCommands, NeverReplaceWhatTheyRead) {
  ASSERT_EQ(run_lowrank({"extract", base_, tuned_, "--rank", "2", "--out", at("a")}).status, 0);
  std::filesystem::create_directory(folder_ / "x");
  for (const char* name : {"adapter_model.safetensors", "lowrank_report.json"}) {
    std::filesystem::copy(tuned_, folder_ / "x" / name);
  }
  std::filesystem::create_directory(folder_ / "y");
  std::filesystem::copy(folder_ / "a" / "adapter_config.json",
                        folder_ / "y" / "adapter_config.json");
  std::filesystem::create_symlink(folder_ / "a" / "adapter_model.safetensors",
                                  folder_ / "y" / "adapter_model.safetensors");
  const auto before = read_bytes(folder_ / "a" / "adapter_model.safetensors");
  expect_refusals({
      {{"extract", base_, at("x/adapter_model.safetensors"), "--rank", "2", "--out", at("x"),
        "--force"},
       1,
       "must not be an input"},
      {{"extract", base_, at("x/lowrank_report.json"), "--rank", "2", "--out", at("x"), "--force"},
       1,
       "must not be an input"},
      {{"resize", at("y"), "--rank", "1", "--out", at("a"), "--force"}, 1, "must not be an input"},
      {{"resize", at("a"), "--rank", "1", "--out", base_, "--force"},
       1,
       "must not hold a model beside the adapter"},
  });
  EXPECT_EQ(read_bytes(folder_ / "a" / "adapter_model.safetensors"), before);
}

TEST_F(WeightsCommands, RefuseWhatCannotWork) {
  ASSERT_EQ(run_lowrank({"extract", base_, tuned_, "--rank", "1", "--out", at("a")}).status, 0);
  // The commands run side by side, so each has a folder of its own to write to.
  expect_refusals({
      {{"extract", base_, tuned_, "--out", at("new1")},
       2,
       "a rule for the rank must be given. Got none. Pass --rank N"},
      {{"extract", base_, tuned_, "--rank", "1", "--energy", "1", "--out", at("new2")},
       2,
       "at most one"},
      {{"extract", base_, tuned_, "--rank", "0", "--out", at("new3")},
       2,
       "must be at least 1. Got 0."},
      {{"extract", base_, tuned_, "--max-error", "1", "--out", at("new4")}, 2, "below 1. Got 1."},
      {{"extract", base_, tuned_, "--rank", "1", "--whole", "sav", "--out", at("new5")},
       2,
       "Did you mean \"save\"?"},
      {{"extract", base_, tuned_, "--rank", "1", "--whole", "refuse", "--out", at("new6")},
       1,
       "Got \"linear2.bias\"."},
      {{"extract", base_, base_, "--rank", "1", "--out", at("new7")}, 1, "Got equal models."},
      {{"extract", base_, at("none"), "--rank", "1", "--out", at("new8")}, 1, "none"},
      {{"extract", base_, tuned_, "--rank", "1", "--out", at("a")}, 1, "Pass --force to replace"},
      {{"resize", at("a"), "--rank", "1", "--out", at("a"), "--force"}, 1, "must not be an input"},
      {{"resize", base_, "--rank", "1", "--out", at("new9")}, 1, "adapter_config.json"},
      {{"merge", base_, "--out", at("new10")}, 2, "--adapters"},
      {{"merge", base_, "--adapters", at("a"), "--out", base_, "--force"},
       1,
       "must not be an input"},
      {{"merge", base_, "--adapters", at("a"), "--prefix", "model.", "--out", at("new11")},
       1,
       "must hold \"model.linear1.weight\", which the adapter changes."},
      {{"verify", base_, at("none"), "--adapters", at("a")}, 1, "none"},
      {{"compare", base_, at("a")}, 1, "must hold model.safetensors"},
  });
  for (const auto& entry : std::filesystem::directory_iterator(folder_.path())) {
    EXPECT_THAT(entry.path().filename().string(), ::testing::Not(::testing::StartsWith("new")));
  }
}

}  // namespace
}  // namespace lowrank
