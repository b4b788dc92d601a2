#include <lowrank/io/json_difference.h>

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>

namespace lowrank {
namespace {

std::string difference(const char* one, const char* other) {
  const auto found = first_difference(nlohmann::json::parse(one), nlohmann::json::parse(other));
  return found ? found->field + ": " + found->one + ", " + found->other : "none";
}

TEST(JsonDifference, NamesTheFieldAndBothValues) {
  EXPECT_EQ(difference(R"({"a": 1, "b": {"c": [1, 2]}})", R"({"b": {"c": [1, 2]}, "a": 1})"),
            "none");
  EXPECT_EQ(difference(R"({"a": 1, "b": {"c": "x"}})", R"({"a": 1, "b": {"c": "y"}})"),
            R"(b.c: "x", "y")");
  EXPECT_EQ(difference(R"({"a": {"b": 1}})", R"({"a": {}})"), "a.b: 1, nothing");
  EXPECT_EQ(difference(R"({"a": {}})", R"({"a": {"b": null}})"), "a.b: nothing, null");
  EXPECT_EQ(difference(R"({"a": [1, 2]})", R"({"a": [1, 2, 3]})"), "a: [1,2], [1,2,3]");
  EXPECT_EQ(difference("1", "2"), "the value: 1, 2");
}

}  // namespace
}  // namespace lowrank
