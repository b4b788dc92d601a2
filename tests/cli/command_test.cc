#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include "support/run_command.h"

namespace lowrank {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

TEST(Command, PrintsItsVersionOnStandardOutput) {
  const auto result = run_lowrank({"--version"});
  EXPECT_EQ(result.status, 0);
  EXPECT_THAT(result.out, StartsWith("lowrank "));
  EXPECT_EQ(result.err, "");
}

TEST(Command, RefusesAnUnknownFlagInOneSentence) {
  const auto result = run_lowrank({"--no-such-flag"});
  EXPECT_EQ(result.status, 2);
  EXPECT_EQ(result.out, "");
  EXPECT_THAT(result.err, StartsWith("lowrank: "));
}

TEST(Command, SaysWhichWordItDoesNotKnowAndWhatWasMeant) {
  for (const auto& [words, sentence] :
       std::vector<std::pair<std::vector<std::string>, std::string>>{
           {{"fintune"},
            "\"fintune\" is no command or flag of \"lowrank\". Did you mean \"finetune\"? Run "
            "\"lowrank --help\" for what there is."},
           {{"data", "fetsch"},
            "\"fetsch\" is no command or flag of \"lowrank data\". Did you mean \"fetch\"? Run "
            "\"lowrank data --help\" for what there is."},
           {{"finetune", "--rnak", "3"},
            "The following argument was not expected: --rnak. Did you mean \"--rank\"? Run "
            "\"lowrank finetune --help\" for what there is."},
           {{"finetune", "--only", "2", "--only", "3"},
            "--only: At Most 1 required but received 2. Run \"lowrank finetune --help\" for what "
            "there is."},
           {{}, "A subcommand is required. Run \"lowrank --help\" for what there is."}}) {
    const auto result = run_lowrank(words);
    EXPECT_EQ(result.status, 2);
    EXPECT_EQ(result.err, "lowrank: " + sentence + "\n");
  }
}

TEST(Command, TakesAListInOneWord) {
  const auto help = run_lowrank({"train", "--help"});
  EXPECT_THAT(help.out, HasSubstr("--sizes N,N,...=784,1000,2000,10"));
  const auto result = run_lowrank({"train", "--sizes", "3,x"});
  EXPECT_EQ(result.status, 2);
  EXPECT_THAT(result.err, HasSubstr("Could not convert: --sizes = 3,x. Run"));
}

}  // namespace
}  // namespace lowrank
