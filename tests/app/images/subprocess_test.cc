#include "app/images/subprocess.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>

#include "support/temporary_folder.h"

namespace lowrank::app {
namespace {

using std::chrono::seconds;

ProcessResult shell(const std::string& script, int64_t limit = 60) {
  return run_process({"sh", "-c", script}, "/", seconds(limit));
}

TEST(Subprocess, CapturesBothOutputs) {
  const auto result = shell("echo one; echo two >&2");
  EXPECT_TRUE(result.ok);
  EXPECT_EQ(result.output, "one\ntwo\n");
  EXPECT_EQ(result.problem, "");
}

TEST(Subprocess, RunsInTheFolderWithoutInput) {
  const TemporaryFolder folder;
  const auto result = run_process({"sh", "-c", "pwd -P; cat"}, folder.path(), seconds(60));
  EXPECT_TRUE(result.ok);
  EXPECT_EQ(result.output, std::filesystem::canonical(folder.path()).string() + "\n");
}

TEST(Subprocess, PassesArgumentsAsTheyAre) {
  const auto result = run_process({"printf", "%s", "a b; $HOME \"'"}, "/", seconds(60));
  EXPECT_EQ(result.output, "a b; $HOME \"'");
}

TEST(Subprocess, NamesTheReasonOfAFailure) {
  EXPECT_EQ(shell("echo first; echo 'no network' >&2; echo; exit 7").problem,
            "sh exited with status 7 (no network)");
  EXPECT_EQ(shell("exit 3").problem, "sh exited with status 3");
  EXPECT_EQ(shell("kill -9 $$").problem, "sh was killed by signal 9");
  EXPECT_EQ(run_process({"no-such-program"}, "/", seconds(60)).problem,
            "no-such-program is not installed");
  EXPECT_EQ(run_process({"/etc/passwd"}, "/", seconds(60)).problem,
            "/etc/passwd could not be started (Permission denied)");
}

TEST(Subprocess, KeepsTheEndOfALongOutput) {
  const auto result = shell("yes 0123456789 | head -c 1000000; echo; echo end; exit 1");
  EXPECT_LE(result.output.size(), size_t{1} << 17);
  EXPECT_EQ(result.problem, "sh exited with status 1 (end)");
}

TEST(Subprocess, StopsWhatTakesTooLong) {
  const auto begin = std::chrono::steady_clock::now();
  const auto result = shell("exec sleep 60", /*limit=*/1);
  EXPECT_FALSE(result.ok);
  EXPECT_EQ(result.problem, "sh took longer than 1 s");
  EXPECT_LT(std::chrono::steady_clock::now() - begin, seconds(30));
}

/// A program may leave others running that hold its output open, and outlive its own limit.
TEST(Subprocess, WaitsForNoGrandchildren) {
  const TemporaryFolder folder;
  const auto begin = std::chrono::steady_clock::now();
  const auto left = shell("(sleep 50; touch " + (folder / "late").string() + ") & echo done");
  EXPECT_TRUE(left.ok) << left.problem;
  EXPECT_EQ(left.output, "done\n");
  const auto stopped = shell("sleep 50 & sleep 50", /*limit=*/1);
  EXPECT_EQ(stopped.problem, "sh took longer than 1 s");
  EXPECT_LT(std::chrono::steady_clock::now() - begin, seconds(30));
}

}  // namespace
}  // namespace lowrank::app
