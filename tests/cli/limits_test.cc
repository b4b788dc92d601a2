// Covers cli/main.cc and app/runs under the limits that a system sets: on file sizes, processes and
// memory, and with files that change while they are read.

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <lowrank/io/safetensors.h>

#include <algorithm>
#include <fstream>

#include "support/run_command.h"
#include "support/running_command.h"
#include "support/tiny_images.h"
#include "support/tiny_models.h"

namespace lowrank {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
namespace fs = std::filesystem;

/// Runs the command under a shell's limit: "ulimit -f 8".
CommandResult run_limited(const std::string& limit, const std::vector<std::string>& words) {
  std::string line = limit + "; exec \"$0\" \"$@\"";
  std::vector<std::string> arguments = {"-c", line, LOWRANK_COMMAND};
  arguments.insert(arguments.end(), words.begin(), words.end());
  return run_program("/bin/bash", arguments);
}

class Limits : public ::testing::Test {
 protected:
  const TemporaryFolder images_;
  const std::string data_ = write_tiny_images(images_);
  const TemporaryFolder folder_;
};

TEST_F(Limits, AFileSizeLimitIsAnErrorThatLosesNothing) {
  const auto base = save_tiny_base(folder_ / "base");
  const auto out = (folder_ / "out").string();
  const std::vector<std::string> words = {"finetune",  base,      "--data", data_,   "--rank",
                                          "512",       "--steps", "1",      "--out", out,
                                          "--threads", "1",       "--quiet"};
  const auto result = run_limited("ulimit -f 8", words);  // KiB
  EXPECT_EQ(result.status, 1) << result.err;
  EXPECT_THAT(result.err, AllOf(HasSubstr("must fit into the limit on file sizes"),
                                HasSubstr("See ulimit -f.")));
  EXPECT_FALSE(fs::exists(folder_ / "out" / "adapter_model.safetensors"));
}

/// LibTorch itself would wait for ever.
TEST_F(Limits, ThreadsThatCannotBeMadeAreAnError) {
  const auto base = save_tiny_base(folder_ / "base");
  // Each thread reserves its stack, so that a few of them exceed the address space.
  const auto result = run_limited("ulimit -s 4000000; ulimit -v 12000000",
                                  {"eval", base, "--data", data_, "--threads", "1"});
  EXPECT_EQ(result.status, 1) << result.err;
  EXPECT_THAT(result.err,
              AllOf(HasSubstr("threads must be possible for --threads 1"), HasSubstr("ulimit -u")));
}

TEST_F(Limits, MoreThreadsThanCoresAreCapped) {
  const auto base = save_tiny_base(folder_ / "base");
  const auto result = run_lowrank({"eval", base, "--data", data_, "--threads", "1000", "--json"});
  EXPECT_EQ(result.status, 0) << result.err;
  EXPECT_THAT(result.err, HasSubstr("note: --threads 1000 is more than the"));
}

TEST_F(Limits, AnAdapterThatCannotFitIsRefusedBeforeItTakesMemory) {
  const auto base = save_tiny_base(folder_ / "base", 0, {16, 1'000'000, 10});
  const auto result = run_lowrank(
      {"finetune", base, "--data", data_, "--rank", "100000", "--out", (folder_ / "out").string()});
  EXPECT_EQ(result.status, 2) << result.err;
  EXPECT_THAT(result.err, HasSubstr("must fit into memory"));
  EXPECT_FALSE(fs::exists(folder_ / "out"));
}

TEST_F(Limits, TwoCommandsDoNotWriteToOneFolder) {
  const auto base = save_tiny_base(folder_ / "base");
  const auto out = folder_ / "out";
  const auto words = [&](const std::string& steps) {
    return std::vector<std::string>{"finetune", base,        "--data", data_,
                                    "--steps",  steps,       "--out",  out.string(),
                                    "--force",  "--threads", "1"};
  };
  RunningCommand first(words("100000000"));
  const auto started = [&] { return fs::exists(out / "checkpoint.safetensors"); };
  CommandResult second;
  const auto stopped = first.stop(SIGINT, [&] {
    if (!started()) return false;
    second = run_lowrank(words("1"));
    return true;
  });
  EXPECT_EQ(second.status, 1) << second.err;
  EXPECT_THAT(second.err,
              AllOf(HasSubstr("must not be in use by another command"), HasSubstr("process ")));
  EXPECT_EQ(stopped.status, 1);
  EXPECT_FALSE(fs::exists(out / "adapter_model.safetensors"));
}

/// A killed run leaves a temporary file as large as a model; the next one removes it.
TEST_F(Limits, AKilledRunsLitterGoesWithTheNextRun) {
  const auto base = save_tiny_base(folder_ / "base");
  const auto out = folder_ / "out";
  fs::create_directories(out);
  std::ofstream(out / ".checkpoint.safetensors.0123456789abcdef.tmp") << std::string(1000, 'x');
  const auto result = run_lowrank({"finetune", base, "--data", data_, "--steps", "1", "--out",
                                   out.string(), "--force", "--threads", "1", "--quiet"});
  EXPECT_EQ(result.status, 0) << result.err;
  for (const auto& entry : fs::directory_iterator(out)) {
    EXPECT_FALSE(entry.path().filename().string().starts_with(".")) << entry.path();
  }
}

}  // namespace
}  // namespace lowrank
