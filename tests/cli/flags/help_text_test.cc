#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sstream>

#include "support/run_command.h"

namespace lowrank {
namespace {

using ::testing::HasSubstr;

const std::vector<std::vector<std::string>> kCommands = {{},
                                                         {"mnist"},
                                                         {"train"},
                                                         {"finetune"},
                                                         {"eval"},
                                                         {"predict"},
                                                         {"info"},
                                                         {"targets"},
                                                         {"svd"},
                                                         {"data"},
                                                         {"doctor"},
                                                         {"data", "fetch"},
                                                         {"data", "info"},
                                                         {"data", "export"},
                                                         {"extract"},
                                                         {"resize"},
                                                         {"combine"},
                                                         {"merge"},
                                                         {"verify"},
                                                         {"compare"}};

std::string help_of(std::vector<std::string> words) {
  words.emplace_back("--help");
  const auto result = run_lowrank(words);
  EXPECT_EQ(result.status, 0) << result.err;
  return result.out;
}

TEST(Help, FitsEightyColumns) {
  for (const auto& words : kCommands) {
    std::istringstream lines(help_of(words));
    for (std::string line; std::getline(lines, line);) {
      const auto columns = std::count_if(line.begin(), line.end(), [](char byte) {
        return (static_cast<unsigned char>(byte) & 0xC0U) != 0x80U;
      });
      EXPECT_LE(columns, 80) << line;
    }
  }
}

TEST(Help, IsWhatNoArgumentsAndTheWordHelpAskFor) {
  const auto whole = help_of({});
  for (const std::vector<std::string>& words : {std::vector<std::string>{}, {"help"}}) {
    const auto result = run_lowrank(words);
    EXPECT_EQ(result.status, 0) << result.err;
    EXPECT_EQ(result.out, whole);
  }
  const auto result = run_lowrank({"help", "svd"});
  EXPECT_EQ(result.status, 0) << result.err;
  EXPECT_EQ(result.out, help_of({"svd"}));
  EXPECT_EQ(run_lowrank({"help", "svdd"}).status, 2);
}

TEST(Help, ShowsDefaultsAndOnlyWhatACommandUses) {
  const auto finetune = help_of({"finetune"});
  for (const char* flag : {"--rank INT=8", "--warmup INT=0", "--clip-norm FLOAT=0",
                           "--validation FLOAT=0", "--replay FLOAT=0", "--seed UINT=0"}) {
    EXPECT_THAT(finetune, HasSubstr(flag));
  }
  const auto predict = help_of({"predict"});
  EXPECT_EQ(predict.find("--seed"), std::string::npos);
  EXPECT_EQ(predict.find("--force"), std::string::npos);
}

}  // namespace
}  // namespace lowrank
