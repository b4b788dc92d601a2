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

TEST(Error, ShortensWhatItQuotes) {
  EXPECT_EQ(shortened("añb", 4), "añb");
  EXPECT_EQ(shortened("añb", 3), "añ...");
  EXPECT_EQ(shortened("añb", 2), "a...");
  const auto message = error_message("data", "a name", std::string(1000, 'x'), "Shorten it.");
  EXPECT_EQ(message, "[data] a name. Got " + std::string(600, 'x') + ".... Shorten it.");
}

TEST(Error, ShortensLongLists) {
  EXPECT_EQ(list_names({"a", "b"}), "a, b");
  EXPECT_EQ(list_names({"a", "b", "c"}, 2), "a, b and 1 more");
  EXPECT_EQ(list_names({}), "");
}

}  // namespace
}  // namespace lowrank
