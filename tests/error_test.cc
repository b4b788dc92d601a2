#include <gtest/gtest.h>
#include <lowrank/error.h>

#include "support/expect_error.h"

namespace lowrank {
namespace {

TEST(Error, FollowsTheGrammar) {
  LOWRANK_EXPECT_ERROR(fail<ArgumentError>("attach", "rank must be at least 1", "0"), ArgumentError,
                       "[attach] rank must be at least 1. Got 0.");
  LOWRANK_EXPECT_ERROR(fail<FileError>("idx", "a file must exist", "nothing", "Fetch it."),
                       FileError, "[idx] a file must exist. Got nothing. Fetch it.");
}

TEST(Error, SuggestsOnlyANearName) {
  const std::vector<std::string> layers = {"linear1", "linear2", "head"};
  EXPECT_EQ(did_you_mean("lin1", {"linear1", "xy"}), "");
  EXPECT_EQ(did_you_mean("linaer2", layers), "Did you mean \"linear2\"?");
  EXPECT_EQ(did_you_mean("completely", layers), "");
  EXPECT_EQ(did_you_mean("trian", {"targets", "train"}), "Did you mean \"train\"?");
  EXPECT_EQ(did_you_mean("tarin", {"train"}), "Did you mean \"train\"?");
  EXPECT_EQ(did_you_mean("nrait", {"train"}), "");
  EXPECT_EQ(did_you_mean("x", {}), "");
}

TEST(Error, ShortensLongLists) {
  EXPECT_EQ(list_names({"a", "b"}), "a, b");
  EXPECT_EQ(list_names({"a", "b", "c"}, 2), "a, b and 1 more");
  EXPECT_EQ(list_names({}), "");
}

}  // namespace
}  // namespace lowrank
