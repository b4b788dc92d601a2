#include "adapter/config/python_regex.h"

#include <gtest/gtest.h>
#include <lowrank/error.h>

#include "support/expect_error.h"

namespace lowrank {
namespace {

TEST(Pattern, MatchesAsPythonDoes) {
  const Pattern query(R"(.*\.(query|value))", "target_modules");
  EXPECT_TRUE(query.matches_all_of("layer.0.attention.query"));
  EXPECT_FALSE(query.matches_all_of("layer.0.attention.query.bias"));
  EXPECT_FALSE(query.matches_all_of("query"));
  EXPECT_TRUE(query.matches_start_of("layer.0.attention.query.bias"));
  EXPECT_FALSE(Pattern("attention", "x").matches_start_of("layer.attention"));
  // re.fullmatch tries the second alternative if the first one leaves a rest.
  EXPECT_TRUE(Pattern("a|ab", "x").matches_all_of("ab"));
  EXPECT_TRUE(Pattern(R"((?P<block>h|layers)\.\d+\.(?!mlp)\w+)", "x").matches_all_of("h.3.attn"));
  EXPECT_FALSE(Pattern(R"((?P<block>h|layers)\.\d+\.(?!mlp)\w+)", "x").matches_all_of("h.3.mlp"));
}

TEST(Pattern, GivesANamedGroup) {
  const Pattern index(R"((.*?\.)layers\.(?<number>\d+)\.)", "x");
  EXPECT_EQ(index.group("model.layers.12.query", "number"), "12");
  EXPECT_EQ(index.group("model.blocks.12.query", "number"), std::nullopt);
  EXPECT_EQ(index.group("model.layers.12.query", "other"), std::nullopt);
  EXPECT_EQ(Pattern("(?<number>a)|b", "x").group("b", "number"), "");
}

TEST(Pattern, RefusesWrongSyntaxWithItsPlace) {
  LOWRANK_EXPECT_ERROR(Pattern("lay(ers", "target_modules"), ArgumentError,
                       "[attach] target_modules must be a regular expression. Got \"lay(ers\", "
                       "wrong at character 8: missing closing parenthesis.");
  LOWRANK_EXPECT_ERROR(Pattern("*query", "target_modules"), ArgumentError,
                       "quantifier does not follow a repeatable item");
  LOWRANK_EXPECT_ERROR(Pattern("\xff", "x"), ArgumentError, "UTF-8 error");
  LOWRANK_EXPECT_ERROR(Pattern("a{,3}", "x"), ArgumentError, "Write {0, instead of {,.");
  LOWRANK_EXPECT_ERROR(Pattern(std::string(10'001, 'a'), "x"), ArgumentError,
                       "one of 10001 bytes, more than 10000");
}

// Patterns come from files, which may be malicious: time and memory must stay limited.
TEST(Pattern, StopsAtItsLimits) {
  std::string path(60, 'a');
  path.push_back('c');
  LOWRANK_EXPECT_ERROR(
      Pattern("(a|aa)+", "rank_pattern").matches_all_of(path), ArgumentError,
      "[attach] rank_pattern must be matched within 100000 steps. Got \"(a|aa)+\"");
  LOWRANK_EXPECT_ERROR(Pattern("(((((((a{60}){60}){60}){60}){60}){60}){60})", "x"), ArgumentError,
                       "regular expression is too large");
}

}  // namespace
}  // namespace lowrank
