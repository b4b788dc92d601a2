#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>

#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

#include "support/refusals.h"
#include "support/run_command.h"
#include "support/temporary_folder.h"

namespace lowrank {
namespace {

using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

/// Runs the command in a shell with these redirections; returns the status and standard error.
CommandResult run_in_shell(const std::string& arguments, const std::string& redirections) {
  const TemporaryFolder folder;
  const auto err = folder / "err";
  const auto line =
      std::string(LOWRANK_COMMAND) + " " + arguments + " 2>" + err.string() + " " + redirections;
  const int status = std::system(line.c_str());  // NOLINT(cert-env33-c): a test's own words
  CommandResult result;
  if (WIFEXITED(status)) result.status = WEXITSTATUS(status);
  result.err = read_bytes(err);
  return result;
}

TEST(Output, FailsWhereStandardOutputCannotBeWritten) {
  const std::string sentence = "lowrank: [output] standard output must be writable. Got ";
  // The singular values of 900 x 900 do not fit into a stream's buffer, so printing itself fails.
  for (const std::string arguments :
       {"svd --random 4x4 --json", "--version", "svd --help", "svd --random 900x900 --json"}) {
    const auto full = run_in_shell(arguments, ">/dev/full");
    EXPECT_EQ(full.status, 1) << arguments;
    EXPECT_EQ(full.err, sentence + "\"No space left on device\".\n") << arguments;
    const auto closed = run_in_shell(arguments, ">&-");
    EXPECT_EQ(closed.status, 1) << arguments;
    EXPECT_EQ(closed.err, sentence + "\"Bad file descriptor\".\n") << arguments;
  }
}

TEST(Output, PrintsNothingIntoFilesWhereStandardOutputIsClosed) {
  const TemporaryFolder folder;
  const auto out = (folder / "out").string();
  EXPECT_EQ(run_in_shell("svd --random 4x4 --out " + out, ">&-").status, 1);
  EXPECT_EQ(run_lowrank({"svd", out + "/factors.safetensors", "--tensor", "lora_A"}).status, 0);
}

TEST(Output, IsASentenceWhereMemoryEndsOrALinkLeadsToItself) {
  const TemporaryFolder folder;
  const auto loop = folder / "loop";
  std::filesystem::create_symlink("loop", loop);
  expect_refusals(
      {{{"train", "--sizes", "784,9223372036854775807,10", "--out", (folder / "big").string()},
        2,
        "Adam's moments must fit into memory. Got 7.32e+21 parameters"},
       {{"info", loop.string()}, 1, "Too many levels of symbolic links"}});
}

TEST(Output, ShowsControlCharactersOfMessages) {
  expect_refusals({{{"svd", "a\nb\x1b[2J\x7f.npy"}, 1, "a\\nb\\u001b[2J\\x7f.npy\" must exist"},
                   {{"ümlaut\r\t\x1b"}, 2, "\"ümlaut\\r\\t\\x1b\" is not a command"}});
}

TEST(Output, CutsLongMessagesBetweenCharacters) {
  std::string name = "x";
  while (name.size() < 4000) name += "é";
  const auto result = run_lowrank({name});
  EXPECT_EQ(result.status, 2);
  EXPECT_THAT(result.err, EndsWith("é...\n"));
  EXPECT_LE(result.err.size(), 2020U);
}

TEST(Output, ShowsControlCharactersOfNamesOnStandardOutput) {
  const TemporaryFolder folder;
  const auto file = folder.write("w\x1b[2J.csv", "1 2\n2 4\n").string();
  const auto result = run_lowrank({"svd", file});
  EXPECT_EQ(result.status, 0) << result.err;
  EXPECT_THAT(result.out, StartsWith("W = "));
  EXPECT_THAT(result.out, HasSubstr("w\\x1b[2J.csv\n"));
  EXPECT_THAT(result.out, Not(HasSubstr("\x1b")));
}

}  // namespace
}  // namespace lowrank
