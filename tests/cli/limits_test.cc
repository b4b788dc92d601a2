// Covers cli/main.cc and app/runs under the limits that a system sets: on file sizes, processes and
// memory, and with files that change while they are read.

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <lowrank/io/safetensors.h>

#include <algorithm>
#include <chrono>
#include <csignal>
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
#ifdef LOWRANK_SANITIZE
  GTEST_SKIP() << "a sanitizer reserves terabytes";
#endif
  const auto base = save_tiny_base(folder_ / "base");
  // Each thread reserves its stack, so that a few of them exceed the address space.
  const auto result = run_limited("ulimit -s 4000000; ulimit -v 12000000",
                                  {"eval", base, "--data", data_, "--threads", "1"});
  EXPECT_EQ(result.status, 1) << result.err;
  EXPECT_THAT(result.err, AllOf(HasSubstr("it must be possible to start 3 threads for --threads 1"),
                                HasSubstr("ulimit -u")));
}

/// OpenBLAS itself would try for ever.
TEST_F(Limits, TooLittleAddressSpaceIsAnError) {
#ifdef LOWRANK_SANITIZE
  GTEST_SKIP() << "a sanitizer reserves terabytes";
#endif
  const std::vector<std::string> svd = {"svd", "--random", "300x300"};
  for (const char* limit : {"ulimit -v 500000", "ulimit -v 700000", "ulimit -v 1000000"}) {
    const auto result = run_limited(limit, svd);
    EXPECT_EQ(result.status, 1) << result.err;
    EXPECT_THAT(result.err, AllOf(HasSubstr("the limit on the address space must be at least"),
                                  HasSubstr("ulimit -v")));
  }
  const auto result =
      run_limited("ulimit -v 2000000", {"svd", "--random", "300x300", "--threads", "1"});
  EXPECT_EQ(result.status, 0) << result.err;
}

TEST_F(Limits, AFullDiskIsAnErrorThatLosesNothing) {
  const auto base = save_tiny_base(folder_ / "base");
  const auto disk = folder_ / "disk";
  fs::create_directories(disk);
  // A file system of 64 KiB, which only this shell and its children see.
  const auto script = fmt::format(
      "mount -t tmpfs -o size=64k none {0} || exit 77; "
      "{1} finetune {2} --data {3} --steps 1 --out {0}/a --threads 1 --quiet >/dev/null || exit "
      "78; "
      "sha256sum {0}/a/* > {0}/sums; "
      "{1} finetune {2} --data {3} --steps 1 --rank 512 --out {0}/a --force --threads 1 --quiet; "
      "echo status $?; sha256sum --check --quiet {0}/sums || exit 79; ls -A {0}/a",
      disk.string(), LOWRANK_COMMAND, base, data_);
  const auto result =
      run_program("/usr/bin/unshare", {"--mount", "--map-root-user", "bash", "-c", script});
  const bool is_forbidden = result.status == 1 || result.status == 77;  // unshare or mount
  if (is_forbidden) GTEST_SKIP() << result.err;
  EXPECT_EQ(result.status, 0) << result.err;
  EXPECT_EQ(result.out,
            "status 1\nadapter_config.json\nadapter_model.safetensors\nfigures.json\nhistory.json\n"
            "training.json\n");
  EXPECT_THAT(result.err, HasSubstr("No space left on device"));
}

/// The command reads the numbers of one tensor after the other, and the file shrinks meanwhile.
TEST_F(Limits, AFileThatIsCutShortWhileItIsReadIsNamed) {
  const auto model = folder_ / "model";
  fs::create_directories(model);
  const auto file = model / "model.safetensors";
  std::vector<SafetensorsEntry> entries;
  const auto numbers = at::zeros({4'000'000});
  for (int i = 0; i < 20; ++i) entries.push_back({fmt::format("t{:02}", i), numbers});
  write_safetensors(file, entries, {});
  std::ofstream(model / "config.json") << "{}";
  RunningCommand info({"info", model.string(), "--threads", "1"});
  const auto is_mapped = [&] {
    const auto maps = read_bytes(fmt::format("/proc/{}/maps", info.process()));
    return maps.find("model.safetensors") != std::string::npos;
  };
  const auto result = info.stop(0, [&] {
    if (!is_mapped()) return false;
    fs::resize_file(file, 1'000'000);
    return true;
  });
  EXPECT_EQ(result.status, 1) << result.out;
  EXPECT_THAT(result.err, AllOf(HasSubstr("a file must not change while it is read"),
                                HasSubstr("model.safetensors")));
}

TEST_F(Limits, MoreThreadsThanCoresAreCapped) {
  const auto base = save_tiny_base(folder_ / "base");
  const auto result = run_lowrank({"eval", base, "--data", data_, "--threads", "1000", "--json"});
  EXPECT_EQ(result.status, 0) << result.err;
  EXPECT_THAT(result.err, HasSubstr("so --threads 1000 is reduced to "));
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

/// Kills a run that replaces a finished adapter, at moments all over it. Whatever is found then can
/// be loaded, is the old adapter or the new one, and the next run succeeds.
TEST_F(Limits, SlowKillsLeaveTheOldAdapterOrTheNewOne) {
  const auto base = save_tiny_base(folder_ / "base");
  const auto out = folder_ / "out";
  const auto words = [&](const std::string& seed) {
    return std::vector<std::string>{
        "finetune", base, "--data", data_,        "--rank",  "256",     "--steps",   "20",
        "--seed",   seed, "--out",  out.string(), "--force", "--quiet", "--threads", "1"};
  };
  const auto weights = [&] { return read_bytes(out / "adapter_model.safetensors"); };
  const auto run = [&](const std::string& seed) {
    const auto result = run_lowrank(words(seed));
    EXPECT_EQ(result.status, 0) << result.err;
    return weights();
  };
  const auto replaced = run("2"), kept = run("1");
  int survived = 0;
  for (int i = 0; i < 12; ++i) {
    const auto begin = std::chrono::steady_clock::now();
    const auto moment = std::chrono::milliseconds(150 + 60 * i);
    RunningCommand(words("2")).stop(SIGKILL, [&] {
      return std::chrono::steady_clock::now() - begin > moment;
    });
    const auto found = weights();
    EXPECT_TRUE(found == kept || found == replaced) << i;
    survived += found == kept ? 1 : 0;
    const auto eval = run_lowrank({"eval", base, "--adapter", out.string(), "--data", data_});
    EXPECT_EQ(eval.status, 0) << eval.err;
    if (found == kept) continue;
    EXPECT_EQ(run("1"), kept);
  }
  EXPECT_GT(survived, 0) << "every kill came too late";
}

}  // namespace
}  // namespace lowrank
