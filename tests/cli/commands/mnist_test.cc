#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <csignal>
#include <map>
#include <nlohmann/json.hpp>
#include <string>

#include "support/refusals.h"
#include "support/running_command.h"
#include "support/tiny_images.h"

namespace lowrank {
namespace {

using ::testing::HasSubstr;
namespace fs = std::filesystem;
using Json = nlohmann::json;

/// Returns the content of every file of a run, by its path in the folder.
std::map<std::string, std::string> files_in(const fs::path& folder) {
  std::map<std::string, std::string> files;
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    if (!entry.is_regular_file()) continue;
    files[fs::relative(entry.path(), folder).string()] = read_bytes(entry.path());
  }
  return files;
}

class MnistCommand : public ::testing::Test {
 protected:
  std::vector<std::string> command(const std::string& out, const std::string& digit,
                                   const std::vector<std::string>& more = {}) const {
    std::vector<std::string> words = {"mnist",     "--data", data_,
                                      "--digit",   digit,    "--steps",
                                      "30",        "--out",  (folder_ / out).string(),
                                      "--threads", "1"};
    words.insert(words.end(), more.begin(), more.end());
    return words;
  }
  Json report_of(const std::string& out) const {
    return Json::parse(read_bytes(folder_ / out / "report.json"));
  }

  const TemporaryFolder images_;
  const std::string data_ = write_tiny_images(images_);
  const TemporaryFolder folder_;
};

void expect_evaluation(const Json& evaluation) {
  const std::vector<int64_t> wrong = evaluation.at("wrong_by_class");
  ASSERT_EQ(wrong.size(), 10U);
  int64_t mistakes = 0;
  for (const auto count : wrong) mistakes += count;
  EXPECT_EQ(evaluation.at("total"), 200);
  EXPECT_EQ(evaluation.at("correct"), 200 - mistakes);
  EXPECT_DOUBLE_EQ(evaluation.at("accuracy"), static_cast<double>(200 - mistakes) / 200);
}

void expect_report(const Json& report) {
  // 16-1000-2000-10, rank 1 on the three layers.
  EXPECT_EQ(report.at("parameters").at("base"), 17'000 + 2'002'000 + 20'010);
  EXPECT_EQ(report.at("parameters").at("lora"), 16 + 1000 + 1000 + 2000 + 2000 + 10);
  EXPECT_EQ(report.at("parameters").at("with_lora"), 2'039'010 + 6'026);
  EXPECT_NEAR(report.at("parameters").at("share_percent"), 100.0 * 6'026 / 2'039'010, 1e-9);
  const auto& evaluations = report.at("evaluations");
  for (const char* which : {"base", "lora_on", "lora_off"}) {
    SCOPED_TRACE(which);
    expect_evaluation(evaluations.at(which));
  }
  EXPECT_EQ(evaluations.at("lora_off"), evaluations.at("base"));
  EXPECT_LT(evaluations.at("lora_on").at("wrong_by_class")[2],
            evaluations.at("base").at("wrong_by_class")[2]);
  EXPECT_EQ(report.at("digit"), 2);
  EXPECT_EQ(report.at("steps"), 30);
  EXPECT_EQ(report.at("seed"), 0);
  EXPECT_EQ(report.at("threads"), 1);
  EXPECT_TRUE(report.at("versions").at("lowrank").is_string());
  EXPECT_TRUE(report.at("versions").at("libtorch").is_string());
  std::vector<std::string> names;
  for (const auto& check : report.at("checks")) {
    names.push_back(check.at("name"));
    EXPECT_EQ(check.at("ok"), true) << check;
    EXPECT_NE(check.at("detail"), "");
  }
  EXPECT_THAT(names, ::testing::IsSupersetOf(
                         {"base_unchanged", "only_lora_gradients",
                          "identity_gives_effective_weight", "equals_dense_model", "off_is_base",
                          "reloaded_is_same", "merged_agrees", "digit_mended"}));
}

TEST_F(MnistCommand, ChecksAnAdapterThatDropsOutInTrainingAlone) {
  const auto run = run_lowrank(command("out", "2", {"--dropout", "0.3", "--quiet"}));
  ASSERT_EQ(run.status, 0) << run.out << run.err;
  expect_report(report_of("out"));
}

TEST_F(MnistCommand, TellsTheNotebooksStoryTheSameAfterAnInterruption) {
  const auto whole = run_lowrank(command("whole", "2"));
  ASSERT_EQ(whole.status, 0) << whole.out << whole.err;
  size_t last = 0;
  for (const char* heading :
       {"== Data ==", "== Pretraining ==", "Base: accuracy",
        "== LoRA on the digit 2, as in the notebook ==", "Frozen: linear1.weight, ",
        "Trained: linear1.lora_A.weight, ", "2,045,036", "== Checks of the first adapter ==",
        "== LoRA on the digit 2, with replay ==", "== Mistakes on 200 test", "LoRA on the 2s alone",
        "LoRA with replay", "LoRA off"}) {
    const auto at = whole.out.find(heading, last);
    ASSERT_NE(at, std::string::npos) << heading << " is missing or too early in\n" << whole.out;
    last = at;
  }
  EXPECT_EQ(whole.out.find("FAIL"), std::string::npos) << whole.out;
  auto report = report_of("whole");
  expect_report(report);

  const auto cut = (folder_ / "cut").string();
  const auto started = [&] { return fs::exists(cut + "/base/checkpoint.safetensors"); };
  const auto stopped = RunningCommand(command("cut", "2")).stop(SIGINT, started);
  EXPECT_EQ(stopped.status, 1) << stopped.out;
  EXPECT_THAT(stopped.err, HasSubstr(" mnist --resume " + cut + "\n"));
  EXPECT_FALSE(fs::exists(cut + "/report.json"));
  expect_refusals({{{"mnist", "--resume", cut, "--digit", "3"}, 2, "--digit must be \"2\", as in"},
                   {command("cut", "2"), 1, "Got an interrupted run. Go on with: "}});

  const auto resumed = run_lowrank({"mnist", "--resume", cut, "--json"});
  EXPECT_EQ(resumed.status, 0) << resumed.err;
  auto again = report_of("cut");
  EXPECT_EQ(Json::parse(resumed.out), again);
  report.erase("seconds");
  again.erase("seconds");
  EXPECT_EQ(again, report);
  for (const char* name :
       {"base/model.safetensors", "base/training.json", "adapter/adapter_model.safetensors",
        "adapter/adapter_config.json", "adapter/training.json", "replay/adapter_model.safetensors",
        "replay/adapter_config.json", "replay/training.json", "base/history.json",
        "adapter/history.json", "replay/history.json"}) {
    EXPECT_EQ(read_bytes(cut + "/" + name), read_bytes(folder_ / "whole" / name)) << name;
  }
  EXPECT_FALSE(fs::exists(cut + "/base/checkpoint.safetensors"));
}

/// The path of the base is relative to the adapter's folder, not to where the command is called.
TEST_F(MnistCommand, LeavesAnAdapterThatFinetuneGoesOnWith) {
  auto words = command("cut", "2");
  std::replace(words.begin(), words.end(), std::string("30"), std::string("2000"));
  const auto adapter = folder_ / "cut" / "adapter";
  const auto started = [&] { return fs::exists(adapter / "checkpoint.safetensors"); };
  EXPECT_EQ(RunningCommand(words).stop(SIGINT, started).status, 1);
  EXPECT_FALSE(fs::exists(adapter / "adapter_model.safetensors"));

  const auto resumed = run_lowrank({"finetune", "--resume", adapter.string()});
  EXPECT_EQ(resumed.status, 0) << resumed.err;
  EXPECT_TRUE(fs::exists(adapter / "adapter_model.safetensors"));
}

TEST_F(MnistCommand, PicksTheWorstDigitAndReplacesItsOwnRun) {
  const auto first = run_lowrank(command("run", "worst", {"--json"}));
  const auto report = Json::parse(first.out);
  const std::vector<int64_t> wrong = report.at("evaluations").at("base").at("wrong_by_class");
  EXPECT_EQ(report.at("digit"), std::max_element(wrong.begin(), wrong.end()) - wrong.begin());
  EXPECT_EQ(first.status, 0) << first.err;

  // Options that cannot work must leave a finished run alone, with or without --force.
  const auto before = files_in(folder_ / "run");
  auto no_data = command("run", "2", {"--force"});
  no_data[2] = (folder_ / "none").string();
  expect_refusals({
      {command("run", "2"), 1, "Pass --force to replace it."},
      {no_data, 1, "a data set must be \"mnist\", a folder of images, or a .csv"},
      {command("run", "12", {"--force"}), 2, "--digit must be 0 to 9, or worst. Got \"12\"."},
      {command("run", "2", {"--force", "--device", "gpu"}), 2, "--device must be auto"},
  });
  EXPECT_TRUE(files_in(folder_ / "run") == before) << "a refused command changed the run";
  for (const std::vector<std::string>& options :
       {std::vector<std::string>{"--rank", "0"}, {"--alpha", "0"}, {"--epochs", "0"}}) {
    auto words = command("run", "2", {"--force"});
    words.insert(words.end(), options.begin(), options.end());
    EXPECT_EQ(run_lowrank(words).status, 2) << options[0];
    EXPECT_TRUE(files_in(folder_ / "run") == before) << options[0] << " 0 changed the run";
  }
}

/// What the user keeps beside a run is his, and a finished run stands until the new one is
/// complete.
TEST_F(MnistCommand, ForceKeepsTheUsersFilesAndTheOldRunUntilTheNewOneIsComplete) {
  const auto out = folder_ / "run";
  ASSERT_EQ(run_lowrank(command("run", "2", {"--quiet"})).status, 0);
  folder_.write("run/base/notes.txt", "mine");
  fs::create_directories(out / "other");
  folder_.write("run/other/file", "mine");
  const auto before = files_in(out);
  const auto started = [&] { return fs::exists(out / ".unfinished/base/checkpoint.safetensors"); };
  const auto stopped = RunningCommand(command("run", "3", {"--force"})).stop(SIGINT, started);
  EXPECT_EQ(stopped.status, 1) << stopped.out;
  auto after = files_in(out);
  std::erase_if(after, [](const auto& file) { return file.first.starts_with(".unfinished"); });
  EXPECT_TRUE(after == before) << "an interrupted run changed the old one";

  const auto resumed = run_lowrank({"mnist", "--resume", out.string(), "--quiet"});
  EXPECT_EQ(resumed.status, 0) << resumed.err;
  EXPECT_EQ(report_of("run").at("digit"), 3);
  EXPECT_FALSE(fs::exists(out / ".unfinished"));
  EXPECT_EQ(read_bytes(out / "base/notes.txt"), "mine");
  EXPECT_EQ(read_bytes(out / "other/file"), "mine");
}

TEST_F(MnistCommand, RefusesWrongArguments) {
  const TemporaryFolder images;
  auto no_nine = command("nine", "9");
  no_nine[2] = write_tiny_images(images, {.classes = 9});
  expect_refusals({
      {{"mnist"}, 2, "--out must name the folder to write"},
      {command("a", "two"), 2, "--digit must be 0 to 9, or worst. Got \"two\"."},
      {command("a", "-1"), 2, "Got \"-1\"."},
      {command("a", "2", {"--alpha", "inf"}), 2, "alpha must be finite and not 0. Got inf."},
      {{"mnist", "--resume", (folder_ / "none").string()}, 1, "run.json"},
  });
  const auto result = run_lowrank(no_nine);
  EXPECT_EQ(result.status, 2);
  EXPECT_THAT(result.err, HasSubstr("class 9 must have examples in"));
}

}  // namespace
}  // namespace lowrank
