#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <lowrank/io/safetensors.h>

#include <csignal>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>

#include "support/refusals.h"
#include "support/running_command.h"
#include "support/tiny_images.h"
#include "support/tiny_models.h"

namespace lowrank {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
namespace fs = std::filesystem;

class FinetuneCommand : public ::testing::Test {
 protected:
  std::vector<std::string> command(const std::string& out,
                                   const std::vector<std::string>& more = {}) const {
    return on(base_, out, more);
  }
  std::vector<std::string> on(const std::string& base, const std::string& out,
                              const std::vector<std::string>& more = {}) const {
    std::vector<std::string> words = {"finetune",  base, "--data", data_,
                                      "--threads", "1",  "--out",  (folder_ / out).string()};
    words.insert(words.end(), more.begin(), more.end());
    return words;
  }

  const TemporaryFolder images_;
  const std::string data_ = write_tiny_images(images_);
  const TemporaryFolder folder_;
  const std::string base_ = save_tiny_base(folder_ / "base");
};

TEST_F(FinetuneCommand, ARunThatWasInterruptedEndsAsOneThatWasNot) {
  const std::vector<std::string> options = {
      "--only",         "2",          "--replay",       "0.5",
      "--rank",         "2",          "--steps",        "3000",
      "--init",         "normal",     "--seed",         "3",
      "--target-regex", "linear[12]", "--rank-pattern", "linear2=3,linear.=2"};
  const auto base_before = read_bytes(folder_ / "base" / "model.safetensors");
  const auto whole = run_lowrank(command("whole", options));
  ASSERT_EQ(whole.status, 0) << whole.err;
  EXPECT_THAT(whole.out, HasSubstr("Trained 102 parameters in 2 layers for 3,000 steps"));

  const auto started = [&] { return fs::exists(folder_ / "cut" / "checkpoint.safetensors"); };
  const auto stopped = RunningCommand(command("cut", options)).stop(SIGINT, started);
  EXPECT_EQ(stopped.status, 1) << stopped.out;
  EXPECT_THAT(stopped.err, HasSubstr(" finetune --resume " + (folder_ / "cut").string() + "\n"));
  EXPECT_FALSE(fs::exists(folder_ / "cut" / "adapter_model.safetensors"));

  const auto resumed = run_lowrank({"finetune", "--resume", (folder_ / "cut").string()});
  EXPECT_EQ(resumed.status, 0) << resumed.err;
  for (const char* name : {"adapter_model.safetensors", "adapter_config.json", "training.json",
                           "history.json", "figures.json"}) {
    EXPECT_EQ(read_bytes(folder_ / "cut" / name), read_bytes(folder_ / "whole" / name)) << name;
  }
  EXPECT_EQ(std::distance(fs::directory_iterator(folder_ / "cut"), {}), 5) << "something is left";
  EXPECT_EQ(read_bytes(folder_ / "base" / "model.safetensors"), base_before);
}

/// An initialisation from data sees the same batches when the run is resumed, and the options of
/// --config are kept.
TEST_F(FinetuneCommand, StartsFromDataAsOftenAsItIsResumed) {
  const auto config = folder_
                          .write("adapter_config.json", R"({
      "peft_type": "LORA", "r": 3, "target_modules": ["linear1", "linear2"],
      "init_lora_weights": "corda", "corda_config": {"corda_method": "kpm"}})")
                          .string();
  const auto common = std::vector<std::string>{"--steps", "3000", "--lora-plus-ratio", "4"};
  const std::vector<std::vector<std::string>> starts = {
      {"--init", "eva", "--rank", "2"},
      {"--config", config},
      {"--init", "lora_ga", "--rank", "3", "--init-batches", "5"}};
  for (size_t i = 0; i < starts.size(); ++i) {
    const auto name = std::to_string(i);
    auto options = common;
    options.insert(options.end(), starts[i].begin(), starts[i].end());
    const auto whole = run_lowrank(command(name + "whole", options));
    ASSERT_EQ(whole.status, 0) << whole.err;
    const auto cut = folder_ / (name + "cut");
    const auto started = [&] { return fs::exists(cut / "checkpoint.safetensors"); };
    const auto stopped = RunningCommand(command(name + "cut", options)).stop(SIGINT, started);
    ASSERT_EQ(stopped.status, 1) << stopped.out;
    const auto resumed = run_lowrank({"finetune", "--resume", cut.string()});
    EXPECT_EQ(resumed.status, 0) << resumed.err;
    for (const char* file : {"adapter_model.safetensors", "adapter_config.json", "training.json",
                             "history.json", "figures.json"}) {
      EXPECT_EQ(read_bytes(cut / file), read_bytes(folder_ / (name + "whole") / file))
          << name << ", " << file;
    }
  }
}

TEST_F(FinetuneCommand, RefusesToGoOnOnABaseThatChanged) {
  const auto started = [&] { return fs::exists(folder_ / "cut" / "checkpoint.safetensors"); };
  const auto stopped = RunningCommand(command("cut", {"--steps", "3000"})).stop(SIGINT, started);
  ASSERT_EQ(stopped.status, 1) << stopped.out;
  save_tiny_base(folder_ / "base", /*seed=*/1);
  const auto refused =
      run_lowrank({"finetune", "--resume", (folder_ / "cut").string(), "--steps", "3000"});
  EXPECT_EQ(refused.status, 1);
  EXPECT_THAT(refused.err, AllOf(HasSubstr("must be the one that the run was started on"),
                                 HasSubstr("put the old one back, or start anew")));
  EXPECT_FALSE(fs::exists(folder_ / "cut" / "adapter_model.safetensors"));
}

TEST_F(FinetuneCommand, RefusesToGoOnWithOtherExamples) {
  const auto started = [&] { return fs::exists(folder_ / "cut" / "checkpoint.safetensors"); };
  const auto stopped = RunningCommand(command("cut", {"--steps", "3000000"})).stop(SIGINT, started);
  ASSERT_EQ(stopped.status, 1) << stopped.out;
  const auto labels = fs::path(data_) / "train-labels-idx1-ubyte";
  auto bytes = read_bytes(labels);
  bytes.back() = static_cast<char>((bytes.back() + 1) % 10);
  std::ofstream(labels, std::ios::binary) << bytes;
  expect_refusals({{{"finetune", "--resume", (folder_ / "cut").string()},
                    1,
                    "the examples must be those that the run was started with. Got others in"}});
  EXPECT_TRUE(started()) << "the checkpoint stays";
  fs::rename(data_, data_ + "-moved");
  const std::vector<std::string> resume = {"finetune", "--resume", (folder_ / "cut").string()};
  expect_refusals({{resume, 1, "what the run was started with must exist: \"" + data_}});
  fs::rename(data_ + "-moved", data_);
  const auto other = save_tiny_base(folder_ / "other", /*seed=*/1);
  expect_refusals({{{"finetune", other, "--resume", (folder_ / "cut").string()},
                    1,
                    "Leave the base out, or name that one."}});
}

TEST_F(FinetuneCommand, KeepsModelsAndAdaptersApart) {
  ASSERT_EQ(run_lowrank(command("a", {"--steps", "1"})).status, 0);
  save_tiny_base(folder_ / "other");
  const auto into_model = command("other", {"--steps", "1", "--force"});
  expect_refusals(
      {{into_model, 1, "must not hold a model beside the adapter"},
       {{"train", "--data", data_, "--steps", "1", "--out", (folder_ / "a").string(), "--force"},
        1,
        "must not hold an adapter beside the model"}});
}

TEST_F(FinetuneCommand, GoesOnWithTheSameBaseInAnotherPlace) {
  const auto cut = (folder_ / "cut").string(), out = (folder_ / "whole").string();
  const auto started = [&] { return fs::exists(fs::path(cut) / "checkpoint.safetensors"); };
  ASSERT_EQ(run_lowrank(command("whole", {"--steps", "3000"})).status, 0);
  const auto stopped = RunningCommand(command("cut", {"--steps", "3000"})).stop(SIGINT, started);
  ASSERT_EQ(stopped.status, 1) << stopped.out;
  fs::rename(base_, folder_ / "moved");
  const auto resumed =
      run_lowrank({"finetune", (folder_ / "moved").string(), "--resume", cut + "/", "--out", cut});
  EXPECT_EQ(resumed.status, 0) << resumed.err;
  for (const auto* name : {"/adapter_model.safetensors", "/adapter_config.json", "/training.json",
                           "/history.json", "/figures.json"}) {
    EXPECT_EQ(read_bytes(cut + name), read_bytes(out + name)) << name;
  }
}

TEST_F(FinetuneCommand, AnUnfinishedRunIsCalledByName) {
  const auto cut = (folder_ / "cut").string();
  const auto started = [&] { return fs::exists(fs::path(cut) / "checkpoint.safetensors"); };
  const auto stopped = RunningCommand(command("cut", {"--steps", "3000000"})).stop(SIGINT, started);
  ASSERT_EQ(stopped.status, 1) << stopped.out;
  const std::string advice = " finetune --resume " + cut + "\n";
  const std::string unfinished =
      "must hold a finished run. Got one that was interrupted. Finish it";
  const auto nothing = (folder_ / "nothing").string();
  expect_refusals(
      {{{"eval", base_, "--adapter", cut, "--data", data_}, 1, unfinished},
       {{"eval", base_, "--adapter", cut, "--data", data_}, 1, advice},
       {{"info", cut}, 1, unfinished},
       {{"finetune", cut, "--out", nothing, "--data", data_}, 1, unfinished},
       {command("new", {"--adapter", cut}), 1, unfinished},
       {{"train", "--resume", cut}, 1, advice},
       {{"finetune", "--resume", cut, "--adapter", base_},
        2,
        "--adapter must be left out, because the run in "},
       {{"info", nothing}, 1, "[load] there must be a folder \"" + nothing + "\". Got none."},
       {{"eval", nothing, "--data", data_}, 1, "[load] there must be a folder"},
       {{"eval", base_, "--adapter", nothing, "--data", data_},
        1,
        "[load] there must be a folder"}});
}

/// A folder that somebody else has made must not lead what is written to other places.
TEST_F(FinetuneCommand, WritesThroughNoLinks) {
  const auto base_before = read_bytes(folder_ / "base" / "model.safetensors");
  const auto config_before = read_bytes(folder_ / "base" / "config.json");
  fs::create_directories(folder_ / "out");
  fs::create_symlink("../base/model.safetensors", folder_ / "out/checkpoint.safetensors");
  fs::create_symlink("../base/model.safetensors", folder_ / "out/adapter_model.safetensors");
  fs::create_symlink("../base/config.json", folder_ / "out/training.json");
  const auto result = run_lowrank(command("out", {"--steps", "2", "--force"}));
  EXPECT_EQ(result.status, 0) << result.err;
  EXPECT_EQ(read_bytes(folder_ / "base" / "model.safetensors"), base_before);
  EXPECT_EQ(read_bytes(folder_ / "base" / "config.json"), config_before);
  EXPECT_FALSE(fs::is_symlink(folder_ / "out/adapter_model.safetensors"));
  EXPECT_EQ(run_lowrank({"info", (folder_ / "out").string()}).status, 0);
}

TEST_F(FinetuneCommand, LogsItsRun) {
  const auto log = (folder_ / "log").string();
  const auto words = command("out", {"--steps", "20", "--validation", "0.25", "--log-to", log});
  ASSERT_EQ(run_lowrank(words).status, 0);
  std::string events;
  for (const auto& entry : fs::directory_iterator(log)) {
    if (entry.path().extension() != ".jsonl") events = read_bytes(entry.path());
  }
  for (const auto* name : {"options", "train/loss", "validation/loss", "mistakes/",
                           "singular_values/linear1", "parameters/linear1.lora_A.weight"}) {
    EXPECT_THAT(events, HasSubstr(name));
  }
  expect_refusals({{command("two", {"--steps", "20", "--log-to", log}), 1,
                    "metrics.jsonl\" must not exist yet. Got the log of another run."}});
  EXPECT_FALSE(fs::exists(folder_ / "two"));
}

TEST_F(FinetuneCommand, EndsByPatienceAndKeepsTheHistory) {
  const auto result = run_lowrank(
      command("out", {"--steps", "4000", "--lr", "0.05", "--validation", "0.25", "--validate-every",
                      "5", "--patience", "2", "--weight-decay", "0.01"}));
  EXPECT_EQ(result.status, 0) << result.err;
  EXPECT_THAT(result.out, HasSubstr("whose parameters were kept. Ended by --patience."));
  const auto training = nlohmann::json::parse(read_bytes(folder_ / "out" / "training.json"));
  const auto history = nlohmann::json::parse(read_bytes(folder_ / "out" / "history.json"));
  const auto& validations = history.at("validations");
  ASSERT_GE(validations.size(), 3U);
  EXPECT_EQ(validations.back().at("step"), training.at("result").at("steps"));
  EXPECT_EQ(training.at("run").at("train").at("patience"), 2);
  EXPECT_FALSE(history.at("points").empty());
}

TEST_F(FinetuneCommand, WarnsOfARankThatBringsNothing) {
  const auto result = run_lowrank(command("out", {"--rank", "9", "--steps", "2", "--json"}));
  EXPECT_EQ(result.status, 0);
  EXPECT_THAT(result.err,
              HasSubstr("gains nothing: rank 9 for linear1 (8 x 16), 9 for linear2 (10 x 8).\n"));
  EXPECT_EQ(nlohmann::json::parse(result.out).at("parameters"), 9 * (8 + 16 + 10 + 8));
}

/// The scaling is 1 unless --alpha says otherwise.
TEST_F(FinetuneCommand, TakesTheRankAsAlpha) {
  const auto alpha = [&](const std::string& out, const std::vector<std::string>& options) {
    EXPECT_EQ(run_lowrank(command(out, options)).status, 0);
    const auto config = read_bytes(folder_ / out / "adapter_config.json");
    return nlohmann::json::parse(config).at("lora_alpha").get<double>();
  };
  EXPECT_EQ(alpha("a", {"--rank", "2", "--steps", "1"}), 2);
  EXPECT_EQ(alpha("b", {"--rank", "2", "--alpha", "6", "--steps", "1"}), 6);
  const auto config = folder_.write("c.json", R"({"peft_type": "LORA", "r": 3, "lora_alpha": 5,
      "target_modules": ["linear1"]})");
  EXPECT_EQ(alpha("c", {"--config", config.string(), "--rank", "4", "--steps", "1"}), 5);
}

TEST_F(FinetuneCommand, SaysWhichValidationWasBest) {
  const auto result = run_lowrank(command("out", {"--steps", "20", "--validation", "0.2"}));
  EXPECT_EQ(result.status, 0) << result.err;
  EXPECT_THAT(result.out, HasSubstr("The best validation loss was "));
}

TEST_F(FinetuneCommand, RefusesWrongArguments) {
  expect_refusals({
      {{"finetune", "--data", data_, "--out", (folder_ / "a").string()},
       2,
       "a base model must be given. Got none."},
      {command("a", {"--rank", "0"}), 2, "rank must be at least 1. Got 0."},
      {command("a", {"--rank", "-1"}), 2, "rank must be at least 1. Got -1."},
      {command("a", {"--alpha", "0"}), 2, "alpha must be finite and not 0. Got 0."},
      {command("a", {"--alpha", "nan"}), 2, "alpha must be finite and not 0. Got nan."},
      {command("a", {"--target-modules", "linaer1"}), 2, "Did you mean \"linear1\"?"},
      {command("a", {"--target-modules", "linear1", "--layers", "0"}), 2, "--layers"},
      {command("a", {"--dropout", "1"}), 2, "--dropout must be at least 0 and below 1. Got 1."},
      {command("a", {"--only", "10"}), 2, "Got 10."},
      {command("a", {"--replay", "0.5"}), 2, "Got no --only."},
      {command("a", {"--only", "2", "--replay", "1"}), 2, "--replay must be"},
      {command("a", {"--init", "norml"}), 2, "Did you mean \"normal\"?"},
      {command("a", {"--init", "lora_ga", "--rank", "5"}), 2,
       "half of the smaller of out and in, 4. Got 5. (At the layer \"linear1\".)"},
      {command("a", {"--init-batches", "0"}), 2, "--init-batches must be 1 to 1000000. Got 0."},
      {command("a", {"--lora-plus-ratio", "0"}), 2, "must be finite and above 0. Got 0."},
      {{"finetune", "--resume", (folder_ / "base").string()}, 1, "must exist. Got no such file."},
  });
  EXPECT_EQ(std::distance(fs::directory_iterator(folder_.path()), {}), 1) << "a folder was made";
}

TEST_F(FinetuneCommand, RefusesAClassWithoutExamples) {
  const TemporaryFolder images;
  auto words = on(base_, "a", {"--only", "9"});
  words[3] = write_tiny_images(images, {.classes = 9});
  expect_refusals({{words, 2, "class 9 must have examples in"}});
  EXPECT_FALSE(fs::exists(folder_ / "a"));
}

TEST_F(FinetuneCommand, RefusesSpoiltBases) {
  const auto spoil = [&](const std::string& name, const std::string& file,
                         const std::function<std::string(std::string)>& change) {
    const auto base = save_tiny_base(folder_ / name);
    const auto path = fs::path(base) / file;
    folder_.write(name + "/" + file, change(read_bytes(path)));
    return on(base, "a");
  };
  const std::string weights = "model.safetensors";
  expect_refusals({
      {on((folder_ / "none").string(), "a"), 1, "[load] there must be a folder"},
      {spoil("json", "config.json", [](const std::string& s) { return s.substr(0, 20); }), 1,
       "must be valid JSON. Got wrong syntax at byte"},
      {spoil("short", weights, [](const std::string& s) { return s.substr(0, s.size() - 4); }), 1,
       "must lie, in order, within the"},
      {spoil("huge", weights, [](std::string s) { return s.replace(0, 8, 8, '\x7f'); }), 1,
       "Got a header length of"},
      {spoil("twice", weights,
             [](std::string s) { return s.replace(s.find("linear2.bias"), 12, "linear1.bias"); }),
       1, "Got the key \"linear1.bias\" twice."},
  });
  EXPECT_FALSE(fs::exists(folder_ / "a"));
}

TEST_F(FinetuneCommand, KeepsWhatIsThereWhereItDiverges) {
  save_tiny_adapter(base_, folder_ / "two");
  const auto before = read_bytes(folder_ / "two" / "adapter_model.safetensors");
  expect_refusals({{command("two", {"--force", "--steps", "1", "--lr", "1e40", "--quiet"}), 1,
                    "must stay finite. Got NaN or Inf after step 1."}});
  EXPECT_EQ(read_bytes(folder_ / "two" / "adapter_model.safetensors"), before);
}

TEST_F(FinetuneCommand, LosesNoAdapterThatIsThere) {
  save_tiny_adapter(base_, folder_ / "two");
  const auto before = read_bytes(folder_ / "two" / "adapter_model.safetensors");
  expect_refusals({{command("two"), 1, "Pass --force to replace it."},
                   {command("base", {"--force"}), 1,
                    "base\" must not be an input of the command. Got the input \"" + base_},
                   {command("two", {"--force", "--rank", "0"}), 2, "rank must be at least 1"}});
  EXPECT_EQ(read_bytes(folder_ / "two" / "adapter_model.safetensors"), before);
}

TEST_F(FinetuneCommand, GoesOnFromAFinishedAdapterWithItsConfig) {
  const auto first = (folder_ / "first").string(), more = (folder_ / "more").string();
  const auto started =
      run_lowrank(command("first", {"--rank", "3", "--alpha", "5", "--steps", "9"}));
  ASSERT_EQ(started.status, 0) << started.err;
  const auto went_on =
      run_lowrank(command("more", {"--adapter", first, "--steps", "1", "--lr", "1e-9"}));
  EXPECT_EQ(went_on.status, 0) << went_on.err;
  EXPECT_EQ(read_bytes(folder_ / "more/adapter_config.json"),
            read_bytes(folder_ / "first/adapter_config.json"));
  const auto before = SafetensorsFile::open(folder_ / "first/adapter_model.safetensors");
  const auto after = SafetensorsFile::open(folder_ / "more/adapter_model.safetensors");
  ASSERT_EQ(before.names(), after.names());
  for (const auto& name : before.names()) {
    EXPECT_TRUE(at::allclose(after.tensor(name), before.tensor(name), 0, 1e-8)) << name;
  }
  const auto flags = run_lowrank(command("other", {"--adapter", first, "--rank", "2"}));
  EXPECT_EQ(flags.status, 2);
  EXPECT_THAT(flags.err, HasSubstr("whose config it keeps. Got --rank."));
  const auto onto_itself = run_lowrank(command("first", {"--adapter", first, "--force"}));
  EXPECT_EQ(onto_itself.status, 1);
  EXPECT_THAT(onto_itself.err, HasSubstr("must not be an input of the command"));
  const auto resumed = run_lowrank({"finetune", "--resume", more});
  EXPECT_EQ(resumed.status, 1);
  EXPECT_THAT(resumed.err, HasSubstr("lowrank finetune BASE --adapter " + more));
}

TEST_F(FinetuneCommand, TakesTheDataThatItsBaseWasTrainedOn) {
  const TemporaryFolder images;
  const auto data = write_tiny_images(images);
  const auto base = (folder_ / "trained").string();
  const auto trained = run_lowrank({"train", "--data", data, "--sizes", "16,8,10", "--steps", "5",
                                    "--out", base, "--threads", "1"});
  ASSERT_EQ(trained.status, 0) << trained.err;
  const auto results =
      run_each({{"eval", base, "--json"},
                {"eval", base, "--data", data_},
                {"predict", base, "--index", "0"},
                {"finetune", base, "--steps", "1", "--out", (folder_ / "a").string()}});
  for (const auto& result : results) EXPECT_EQ(result.status, 0) << result.err;
  EXPECT_EQ(nlohmann::json::parse(results[0].out)["data"], images.path().filename().string());
  EXPECT_THAT(results[1].err, HasSubstr("warning: the base was trained on " + data));
  fs::rename(images.path(), folder_ / "moved");
  const auto gone = run_lowrank({"eval", base});
  EXPECT_EQ(gone.status, 1);
  EXPECT_THAT(gone.err,
              AllOf(HasSubstr("the data set that the model was trained on must be where it was"),
                    HasSubstr("Name it with --data.")));
  fs::rename(folder_ / "moved", images.path());
}

/// Whoever edits a checkpoint can ask for anything. Nothing is allocated for it, and since no
/// argument is wrong, the status is that of a bad file.
TEST_F(FinetuneCommand, TakesNoMemoryForWhatACheckpointCannotHold) {
  const auto out = folder_ / "run";
  const auto started = [&] { return fs::exists(out / "checkpoint.safetensors"); };
  RunningCommand(command("run", {"--steps", "100000000"})).stop(SIGINT, started);
  const auto whole = read_bytes(out / "checkpoint.safetensors");
  const auto resume_with = [&](const std::string& text, const std::string& other) {
    auto file = SafetensorsFile::open(out / "checkpoint.safetensors");
    auto metadata = file.metadata();
    std::vector<SafetensorsEntry> entries;
    for (const auto& name : file.names()) entries.push_back({name, file.tensor(name).clone()});
    auto& identity = metadata.at("lowrank.identity");
    EXPECT_NE(identity.find(text), std::string::npos) << identity;
    identity.replace(identity.find(text), text.size(), other);
    write_safetensors(out / "checkpoint.safetensors", entries, metadata);
    const auto result = run_lowrank({"finetune", "--resume", out.string()});
    folder_.write("run/checkpoint.safetensors", whole);
    EXPECT_EQ(result.status, 1) << result.err;
    return result.err;
  };
  EXPECT_THAT(resume_with("\"r\":8", "\"r\":1000000"),
              HasSubstr("must hold the parameters of its run"));
  EXPECT_THAT(resume_with("\"r\":8", "\"r\":-8"), HasSubstr("rank must be at least 1"));
  EXPECT_THAT(resume_with("\"batch_size\":", "\"batch_size\":-"),
              HasSubstr("--batch-size must be at least 1"));
}

}  // namespace
}  // namespace lowrank
