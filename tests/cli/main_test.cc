#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include "support/refusals.h"
#include "support/tiny_models.h"

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
            "\"fintune\" is not a command or flag of \"lowrank\". Did you mean \"finetune\"? Run "
            "\"lowrank --help\" to see what it takes."},
           {{"data", "fetsch"},
            "\"fetsch\" is not a command or flag of \"lowrank data\". Did you mean \"fetch\"? Run "
            "\"lowrank data --help\" to see what it takes."},
           {{"finetune", "--rnak", "3"},
            "\"--rnak\" is not a flag of \"lowrank finetune\". Did you mean \"--rank\"? Run "
            "\"lowrank finetune --help\" to see what it takes."},
           {{"finetune", "--r", "4"},
            "\"--r\" is not a flag of \"lowrank finetune\". Did you mean \"--rank\"? Run "
            "\"lowrank finetune --help\" to see what it takes."},
           {{"finetune", "--lora_alpha=4"},
            "\"--lora_alpha=4\" is not a flag of \"lowrank finetune\". Did you mean \"--alpha\"? "
            "Run \"lowrank finetune --help\" to see what it takes."},
           {{"finetune", "--only", "2", "--only", "3"},
            "--only may be given once. Run \"lowrank finetune --help\" to see "
            "what it takes."},
           {{"data"},
            "A subcommand is required. Run \"lowrank data --help\" to see what it takes."}}) {
    const auto result = run_lowrank(words);
    EXPECT_EQ(result.status, 2);
    EXPECT_EQ(result.err, "lowrank: " + sentence + "\n");
  }
}

TEST(Command, TakesAListInOneWord) {
  const auto help = run_lowrank({"train", "--help"});
  EXPECT_THAT(help.out, HasSubstr("--sizes N,N,...=784,1000,2000,10"));
  expect_refusals(
      {{{"train", "--sizes", "3,x"}, 2, "[train] each of --sizes must be a whole number. Got "},
       {{"train", "--sizes", "3,,4"}, 2, "[train] no entry of --sizes may be empty. Got \"3,,4\"."},
       {{"finetune", "base", "--target-modules", "a,"}, 2, "no entry of --target-modules may be"}});
}

TEST(Command, TakesNumbersThatFit) {
  const std::string seed = "[train] --seed must be a whole number of at least 0.";
  expect_refusals(
      {{{"train", "--seed", "18446744073709551616"},
        2,
        "[train] --seed must be a whole number from 0 to 18446744073709551615. Got \"1844"},
       {{"train", "--seed", "-1"}, 2, seed + " Got \"-1\"."},
       {{"train", "--seed", "1.5"}, 2, seed + " Got \"1.5\"."},
       {{"train", "--seed", ""}, 2, seed + " Got \"\"."},
       {{"train", "--steps", "9223372036854775808"},
        2,
        "--steps must be a whole number from -9223372036854775808 to 9223372036854775807. Got"},
       {{"train", "--threads", "0x2"}, 2, "--threads must be a whole number. Got \"0x2\"."},
       {{"train", "--lr", "1e999"},
        2,
        "--lr must be a number in the range of a double. Got \"1e999\"."},
       {{"finetune", "base", "--warmup", "two"}, 2, "[finetune] --warmup must be a whole number"}});
}

TEST(Command, TakesNumbersInBaseTen) {
  const TemporaryFolder folder;
  const auto base = save_tiny_base(folder / "base");
  const auto result = run_lowrank({"targets", base, "--rank", "010", "--json"});
  ASSERT_EQ(result.status, 0) << result.err;
  EXPECT_THAT(result.out, HasSubstr("\"rank\": 10"));
}

TEST(Command, TakesNoEmptyText) {
  expect_refusals({{{"eval", "base", "--adapter", ""}, 2, "[eval] --adapter must not be empty."},
                   {{"eval", ""}, 2, "[eval] base must not be empty."},
                   {{"train", "--out", ""}, 2, "[train] --out must not be empty."},
                   {{"train", "--schedule", ""}, 2, "[train] --schedule must not be empty."}});
}

}  // namespace
}  // namespace lowrank
