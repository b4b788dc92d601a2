// Covers cli/documents, by what the build has written from the command line.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <string>

#include "support/run_command.h"
#include "support/temporary_folder.h"

namespace lowrank {
namespace {

namespace fs = std::filesystem;
using testing::AllOf;
using testing::HasSubstr;

fs::path share() { return fs::path(LOWRANK_COMMAND).parent_path() / "share"; }

TEST(ManualPage, SaysWhatTheHelpSays) {
  EXPECT_THAT(read_bytes(share() / "man/man1/lowrank-finetune.1"),
              AllOf(HasSubstr(".TH LOWRANK\\-FINETUNE 1"), HasSubstr("\\fB\\-\\-rank\\fR"),
                    HasSubstr(".SH EXAMPLES"), HasSubstr("2 for wrong arguments")));
  EXPECT_THAT(read_bytes(share() / "man/man1/lowrank.1"),
              AllOf(HasSubstr("\\fBlowrank\\-data\\fR(1)"), HasSubstr(".SH COMMANDS")));
  EXPECT_TRUE(fs::exists(share() / "man/man1/lowrank-data-fetch.1"));
}

/// Completes the last of these words as bash would, after sourcing the file.
std::string completed(const std::string& words) {
  const TemporaryFolder folder;
  const auto script = "cd " + folder.path().string() + "; touch a-file; source " +
                      (share() / "bash-completion/completions/lowrank").string() +
                      "; COMP_WORDS=(" + words +
                      "); COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); _lowrank; echo ${COMPREPLY[*]}";
  return run_program("/bin/bash", {"-c", script}).out;
}

TEST(BashCompletion, KnowsCommandsFlagsAndFiles) {
  EXPECT_EQ(completed("lowrank fine"), "finetune\n");
  EXPECT_EQ(completed("lowrank data f"), "fetch\n");
  EXPECT_EQ(completed("lowrank finetune --lora-p"), "--lora-plus-ratio\n");
  EXPECT_EQ(completed("lowrank merge a-"), "a-file\n");
  EXPECT_EQ(completed("lowrank merge --rank"), "\n") << "a flag of another command";
}

TEST(OtherCompletions, NameEveryCommand) {
  const auto zsh = read_bytes(share() / "zsh/site-functions/_lowrank");
  const auto fish = read_bytes(share() / "fish/vendor_completions.d/lowrank.fish");
  EXPECT_EQ(zsh.find("#compdef lowrank\n"), 0U);
  for (const std::string name : {"finetune", "svd", "report", "data"}) {
    EXPECT_THAT(zsh, HasSubstr("_lowrank_" + name + "() {"));
    EXPECT_THAT(fish, HasSubstr("-a " + name + " -d"));
  }
}

}  // namespace
}  // namespace lowrank
