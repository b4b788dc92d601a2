// Covers app/runs/processes.cc and src/train/processes: runs that several processes share.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <csignal>
#include <fstream>
#include <string>
#include <vector>

#include "support/refusals.h"
#include "support/running_command.h"
#include "support/tiny_images.h"
#include "support/tiny_models.h"

namespace lowrank {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
namespace fs = std::filesystem;
using Words = std::vector<std::string>;

/// Returns the processes that a process has started.
std::vector<pid_t> children_of(pid_t process) {
  std::ifstream file("/proc/" + std::to_string(process) + "/task/" + std::to_string(process) +
                     "/children");
  std::vector<pid_t> children;
  for (pid_t child = 0; file >> child;) children.push_back(child);
  return children;
}

class Processes : public ::testing::Test {
 protected:
  Words command(const std::string& out, const Words& more) const {
    Words words = {"finetune",  base_, "--data",  data_,   "--only",       "2",
                   "--replay",  "0.5", "--rank",  "2",     "--accumulate", "5",
                   "--threads", "1",   "--quiet", "--out", at(out)};
    words.insert(words.end(), more.begin(), more.end());
    return words;
  }
  std::string at(const std::string& name) const { return (folder_ / name).string(); }
  std::string adapter(const std::string& name) const {
    return read_bytes(folder_ / name / "adapter_model.safetensors");
  }
  void run(const Words& words) const {
    const auto result = run_lowrank(words);
    ASSERT_EQ(result.status, 0) << result.err;
  }

  const TemporaryFolder images_;
  const std::string data_ = write_tiny_images(images_);
  const TemporaryFolder folder_;
  const std::string base_ = save_tiny_base(folder_ / "base");
};

TEST_F(Processes, GiveTheBytesOfOneProcess) {
  const Words options = {"--steps", "30", "--clip-norm", "1"};
  run(command("alone", options));
  for (const char* count : {"1", "2", "3"}) {
    auto words = options;
    words.insert(words.end(), {"--processes", count, "--validation", "0.2"});
    run(command(count, words));
  }
  auto validated = options;
  validated.insert(validated.end(), {"--validation", "0.2"});
  run(command("validated", validated));
  EXPECT_NE(adapter("alone"), adapter("validated"));
  for (const char* count : {"1", "2", "3"}) EXPECT_EQ(adapter(count), adapter("validated"));
}

TEST_F(Processes, DrawTheSameWhateverTheirNumberIs) {
  for (const char* count : {"1", "2"}) {
    run(command(count, {"--steps", "20", "--dropout", "0.3", "--processes", count}));
  }
  EXPECT_EQ(adapter("1"), adapter("2"));
  run({"train", "--data", data_, "--sizes", "16,8,10", "--steps", "20", "--accumulate", "2",
       "--threads", "1", "--quiet", "--out", at("one")});
  run({"train", "--data", data_, "--sizes", "16,8,10", "--steps", "20", "--accumulate", "2",
       "--quiet", "--processes", "2", "--out", at("two")});
  EXPECT_EQ(read_bytes(folder_ / "one" / "model.safetensors"),
            read_bytes(folder_ / "two" / "model.safetensors"));
}

TEST_F(Processes, EndTogetherAndAreResumedInAnotherNumber) {
  const Words options = {"--steps", "600", "--dropout", "0.1", "--processes", "2"};
  run(command("whole", options));
  for (const size_t rank : {0, 1}) {
    const auto name = "killed" + std::to_string(rank);
    const auto started = [&] { return fs::exists(folder_ / name / "checkpoint.safetensors"); };
    RunningCommand running(command(name, options));
    const auto killed = [&] {
      if (!started()) return false;
      const auto children = children_of(running.process());
      if (children.size() == 2) ::kill(children[rank], SIGKILL);
      return true;
    };
    const auto result = running.stop(0, killed);
    EXPECT_EQ(result.status, 1) << result.err;
    EXPECT_THAT(result.err, HasSubstr(rank == 0 ? "Got process 0, which signal 9 ended."
                                                : "--resume " + at(name) + " --processes N"));
    EXPECT_EQ(std::count(result.err.begin(), result.err.end(), '\n'), 1) << result.err;
    run({"finetune", "--resume", at(name), "--processes", rank == 0 ? "3" : "1", "--quiet"});
    EXPECT_EQ(adapter(name), adapter("whole"));
  }
  std::signal(SIGINT, SIG_IGN);  // as in a job that a shell runs in the background
  RunningCommand running(command("cut", options));
  std::signal(SIGINT, SIG_DFL);
  const auto started = [&] { return fs::exists(folder_ / "cut" / "checkpoint.safetensors"); };
  const auto stopped = running.stop(SIGINT, started);
  EXPECT_EQ(stopped.status, 1) << stopped.err;
  EXPECT_THAT(stopped.err, AllOf(HasSubstr("the run was interrupted at step"),
                                 HasSubstr("--resume " + at("cut") + " --processes N")));
  expect_refusals({{{"finetune", "--resume", at("cut")},
                    1,
                    "[resume] the run must go on with --processes, of any number. Got none."}});
  run({"finetune", "--resume", at("cut"), "--processes", "2", "--quiet"});
  EXPECT_EQ(adapter("cut"), adapter("whole"));
}

/// What --rendezvous names is never written to.
TEST_F(Processes, MeetBesideTheFileThatIsNamed) {
  const auto file = folder_.write("notes.txt", "keep").string();
  run(command("met", {"--steps", "4", "--processes", "2", "--rendezvous", file}));
  EXPECT_EQ(read_bytes(file), "keep");
  const auto refused = run_lowrank(
      command("b", {"--steps", "4", "--processes", "2", "--rendezvous", at("none") + "/file"}));
  EXPECT_EQ(refused.status, 1);
  EXPECT_THAT(refused.err, HasSubstr("file.lowrank-meeting\" must be a file that can be written"));
}

TEST_F(Processes, AreNotedWhereTheyHaveNothingToDo) {
  Words words = {"finetune", base_, "--data",      data_, "--rank", "1",
                 "--steps",  "2",   "--processes", "2",   "--out",  at("a")};
  const auto result = run_lowrank(words);
  EXPECT_EQ(result.status, 0) << result.err;
  EXPECT_THAT(result.err, HasSubstr("Pass --accumulate 2, or a multiple of it."));
}

TEST_F(Processes, RefuseWhatCannotWork) {
  expect_refusals({
      {command("a", {"--steps", "2", "--processes", "-1"}), 2, "--processes must be 1 to 1024"},
      {command("a", {"--steps", "2", "--processes", "2", "--timeout", "0"}), 2,
       "--timeout must be above 0"},
      {command("a", {"--steps", "2", "--processes", "2", "--lr", "-1"}), 2, "must be"},
  });
}

}  // namespace
}  // namespace lowrank
