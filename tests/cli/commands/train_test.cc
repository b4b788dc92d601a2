#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <lowrank/io/safetensors.h>
#include <sys/resource.h>

#include <csignal>
#include <nlohmann/json.hpp>
#include <string>

#include "app/models/model_folder.h"
#include "support/refusals.h"
#include "support/running_command.h"
#include "support/tiny_images.h"
#include "support/tiny_models.h"

namespace lowrank {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
namespace fs = std::filesystem;

/// Limits the size of files that this process and its children write, as a full disk would.
class ScopedFileLimit {
 public:
  explicit ScopedFileLimit(rlim_t bytes) : handler_(std::signal(SIGXFSZ, SIG_IGN)) {
    getrlimit(RLIMIT_FSIZE, &before_);
    const rlimit limit = {bytes, before_.rlim_max};
    setrlimit(RLIMIT_FSIZE, &limit);
  }
  ~ScopedFileLimit() {
    setrlimit(RLIMIT_FSIZE, &before_);
    std::signal(SIGXFSZ, handler_);
  }
  ScopedFileLimit(const ScopedFileLimit&) = delete;
  ScopedFileLimit& operator=(const ScopedFileLimit&) = delete;

 private:
  rlimit before_{};
  void (*handler_)(int);
};

/// Returns the number of steps in a checkpoint, or -1 if there is none yet.
int64_t steps_in(const fs::path& checkpoint) {
  if (!fs::exists(checkpoint)) return -1;
  const auto file = SafetensorsFile::open(checkpoint);
  return nlohmann::json::parse(file.metadata().at("lowrank.counters")).at("step");
}

class TrainCommand : public ::testing::Test {
 protected:
  std::vector<std::string> command(const std::string& out,
                                   const std::vector<std::string>& more = {}) const {
    std::vector<std::string> words = {"train",   "--data",   data_,
                                      "--sizes", "16,12,10", "--threads",
                                      "1",       "--out",    (folder_ / out).string()};
    words.insert(words.end(), more.begin(), more.end());
    return words;
  }

  const TemporaryFolder images_;
  const std::string data_ = write_tiny_images(images_);
  const TemporaryFolder folder_;
};

TEST_F(TrainCommand, ARunThatWasKilledEndsAsOneThatWasNot) {
  const std::vector<std::string> options = {"--steps",    "3000",   "--validation", "0.1",
                                            "--schedule", "cosine", "--lr",         "0.002",
                                            "--seed",     "5"};
  const auto whole = run_lowrank(command("whole", options));
  ASSERT_EQ(whole.status, 0) << whole.err;
  EXPECT_THAT(whole.out, AllOf(HasSubstr("Trained 334 parameters for 3,000 steps"),
                               HasSubstr("model.safetensors")));

  const auto checkpoint = folder_ / "cut" / "checkpoint.safetensors";
  const auto started = [&] { return fs::exists(checkpoint); };
  const auto stopped = RunningCommand(command("cut", options)).stop(SIGINT, started);
  EXPECT_EQ(stopped.status, 1) << stopped.out;
  EXPECT_THAT(stopped.err,
              AllOf(HasSubstr("[train] the run was interrupted at step "),
                    HasSubstr(" train --resume " + (folder_ / "cut").string() + "\n")));
  EXPECT_FALSE(fs::exists(folder_ / "cut" / "model.safetensors"));

  const auto refused = run_lowrank({"train", "--resume", (folder_ / "cut").string(), "--lr", "1"});
  EXPECT_EQ(refused.status, 1);
  EXPECT_THAT(refused.err, AllOf(HasSubstr("[resume] --lr must be 0.002, as in"),
                                 HasSubstr("Give the options that the run was started with.")));

  const std::vector<std::string> resume = {"train", "--resume", (folder_ / "cut").string()};
  const auto steps = steps_in(checkpoint);
  const auto moved_on = [&] { return steps_in(checkpoint) > steps; };
  EXPECT_EQ(RunningCommand(resume).stop(SIGKILL, moved_on).status, 128 + SIGKILL);

  const auto ended = run_lowrank(resume);
  EXPECT_EQ(ended.status, 0) << ended.err;
  for (const char* name :
       {"model.safetensors", "config.json", "training.json", "history.json", "figures.json"}) {
    EXPECT_EQ(read_bytes(folder_ / "cut" / name), read_bytes(folder_ / "whole" / name)) << name;
  }
  EXPECT_EQ(std::distance(fs::directory_iterator(folder_ / "cut"), {}), 5) << "something is left";
  expect_refusals({{resume, 1, "A finished run keeps no checkpoint"}});
}

TEST_F(TrainCommand, TellsItsFiguresAsJson) {
  const auto result = run_lowrank(
      command("out", {"--steps", "20", "--json", "--accumulate", "2", "--clip-norm", "1"}));
  ASSERT_EQ(result.status, 0) << result.err;
  const auto json = nlohmann::json::parse(result.out);
  EXPECT_EQ(json.at("steps"), 20);
  EXPECT_EQ(json.at("parameters"), 16 * 12 + 12 + 12 * 10 + 10);
  EXPECT_GT(json.at("mean_loss"), 0);
  const auto training = nlohmann::json::parse(read_bytes(folder_ / "out" / "training.json"));
  EXPECT_EQ(training.at("run").at("seed"), 0);
  EXPECT_EQ(training.at("run").at("threads"), 1);
  EXPECT_EQ(training.at("run").at("train").at("accumulate"), 2);
  EXPECT_EQ(training.at("result").at("steps"), 20);
  EXPECT_EQ(app::load_mlp(folder_ / "out").model->options().sizes,
            (std::vector<int64_t>{16, 12, 10}));
}

TEST_F(TrainCommand, RefusesWrongArguments) {
  expect_refusals({
      {{"train", "--data", data_}, 2, "[train] --out must name the folder to write. Got none."},
      {command("a", {"--resume", (folder_ / "b").string()}), 2,
       "--out must name the same folder as --resume."},
      {command("a", {"--steps", "-1"}), 2, "[train] --steps must be at least 0. Got -1."},
      {command("a", {"--steps", "0"}), 2, "[train] --steps must be at least 1. Got 0."},
      {command("a", {"--batch-size", "9223372036854775807"}), 2, "--batch-size must be at most"},
      {command("a", {"--lr", "0"}), 2, "--lr must be finite and above 0. Got 0."},
      {command("a", {"--schedule", "cosin"}), 2, "Did you mean \"cosine\"?"},
      {{"train", "--data", data_, "--sizes", "9,10", "--out", (folder_ / "a").string()},
       2,
       "must begin with 16 and end with 10. Got 9,10."},
      {{"train", "--data", (folder_ / "none").string(), "--out", (folder_ / "a").string()},
       1,
       "a data set must be \"mnist\", a folder of images, or a .csv"},
      {command("a", {"--epochs", "9223372036854775807"}), 2, "epochs"},
      {command("a", {"--accumulate", "1000000000"}), 2, "--accumulate must be at most 1000000."},
      {command("a", {"--mean", "nan"}), 2,
       "the mean that is subtracted from inputs must be a number that float32 can hold. Got nan."},
      {command("a", {"--deviation", "1e-45"}), 2,
       "must be a number that float32 can hold and invert. Got 1e-45."},
  });
  EXPECT_TRUE(fs::is_empty(folder_.path()));
}

TEST_F(TrainCommand, NamesTheWayOnWhereARunWasInterrupted) {
  fs::create_directory(folder_ / "cut");
  folder_.write("cut/checkpoint.safetensors", "what a checkpoint may hold");
  const auto cut = (folder_ / "cut").string();
  expect_refusals({{{"train", "--data", data_, "--sizes", "16,10", "--out", cut},
                    1,
                    "must not exist yet, or be empty. Got an interrupted run. Go on with "
                    "--resume \"" +
                        cut + "\", or pass --force to start over."}});
}

TEST_F(TrainCommand, TakesNoMemoryForAModelThatCannotFit) {
  expect_refusals({{{"train", "--data", data_, "--sizes", "16,9999999999,10", "--out",
                     (folder_ / "large").string()},
                    2,
                    "the model, its gradients and Adam's moments must fit into memory. Got "}});
}

TEST_F(TrainCommand, TakesNoMemoryForSizesThatTheCheckpointCannotHold) {
  write_safetensors(
      folder_ / "ck" / "checkpoint.safetensors", {},
      {{"lowrank.identity",
        R"({"seed":0,"threads":1,"device":"cpu","dtype":"float32","data":"d",)"
        R"("sizes":[16,30000000,10],"mean":0.1307,"deviation":0.3081,"train":{"epochs":1,"steps":2,)"
        R"("batch_size":10,"learning_rate":0.001,"schedule":"constant","warmup_steps":0,)"
        R"("clip_norm":0.0,"accumulate":1,"validation":0.0,"replay":0.0,"seed":0,"seconds":0.0,)"
        R"("weight_decay":0.0,"validate_every":0,"patience":0}})"},
       {"lowrank.counters", "{}"}});
  expect_refusals({{{"train", "--data", data_, "--resume", (folder_ / "ck").string()},
                    1,
                    "must hold the parameters of its run. Got "}});
}

/// Linux allows any bytes in a name; JSON does not.
TEST_F(TrainCommand, TellsOfFoldersWhoseNamesAreNoUtf8) {
  const auto out = (folder_ / "fresh\xff").string();
  const auto result = run_lowrank({"train", "--data", data_, "--sizes", "16,10", "--steps", "3",
                                   "--quiet", "--json", "--out", out, "--threads", "1"});
  ASSERT_EQ(result.status, 0) << result.err;
  const auto told = nlohmann::json::parse(result.out).at("out").get<std::string>();
  EXPECT_TRUE(told.ends_with("fresh\xef\xbf\xbd")) << told;
  EXPECT_TRUE(fs::exists(fs::path(out) / "config.json"));
}

TEST_F(TrainCommand, RefusesToGoOnWithoutACheckpointOfItsOwn) {
  const auto folder = folder_ / "run";
  const std::vector<std::string> resume = {"train", "--resume", folder.string()};
  fs::create_directory(folder);
  expect_refusals({{resume, 1, "checkpoint.safetensors\" must exist. Got no such file."}});
  // A checkpoint as `finetune` writes it, which is another kind of run.
  write_safetensors(folder / "checkpoint.safetensors", {},
                    {{"lowrank.identity", R"({"seed": 0, "base": "base"})"}});
  const auto result = run_lowrank(resume);
  EXPECT_EQ(result.status, 1);
  EXPECT_THAT(result.err, HasSubstr((folder / "checkpoint.safetensors").string()));
  EXPECT_THAT(result.err, ::testing::Not(HasSubstr("json.exception")));
}

TEST_F(TrainCommand, RefusesSpoiltData) {
  const TemporaryFolder labels, shorter, fewer;
  write_tiny_images(labels);
  labels.write("train-labels-idx1-ubyte", app::idx_bytes({300}, std::string(300, '\x0b')));
  write_tiny_images(shorter);
  const auto images = read_bytes(shorter / "train-images-idx3-ubyte");
  shorter.write("train-images-idx3-ubyte", images.substr(0, images.size() - 1));
  write_tiny_images(fewer);
  fewer.write("train-labels-idx1-ubyte", app::idx_bytes({299}, std::string(299, '\x01')));
  const auto train_on = [&](const TemporaryFolder& data) {
    return std::vector<std::string>{"train", "--data", data.path().string(), "--out",
                                    (folder_ / "a").string()};
  };
  expect_refusals({{train_on(labels), 1, "must be 0 to 9. Got"},
                   {train_on(shorter), 1, "train-images-idx3-ubyte"},
                   {train_on(fewer), 1, "Got 300 images and 299 labels."}});
  EXPECT_TRUE(fs::is_empty(folder_.path()));
}

TEST_F(TrainCommand, LosesNothingWhereItCannotWrite) {
  save_tiny_base(folder_ / "full");
  const auto before = read_bytes(folder_ / "full" / "model.safetensors");
  folder_.write("file", "mine");
  const auto full = (folder_ / "full").string();
  expect_refusals({{command("full"), 1, "Pass --force to replace it."},
                   {command("file"), 1, "Pass --force to replace it."},
                   {command("file/below"), 1, "must lie in a folder. Got"},
                   {{"train", "--data", data_, "--sizes", "16,10", "--out", "/proc/lowrank"},
                    1,
                    "must be writable. Got"}});
  {
    const ScopedFileLimit limit(1024);
    expect_refusals({{command("full", {"--force", "--steps", "5"}), 1,
                      "must fit into the limit on file sizes. Got"}});
  }
  EXPECT_EQ(read_bytes(folder_ / "full" / "model.safetensors"), before);
  EXPECT_EQ(std::distance(fs::directory_iterator(full), {}), 2) << "a temporary file stays";
  EXPECT_EQ(read_bytes(folder_ / "file"), "mine");
}

}  // namespace
}  // namespace lowrank
