#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "support/run_command.h"

namespace lowrank {
namespace {

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

}  // namespace
}  // namespace lowrank
