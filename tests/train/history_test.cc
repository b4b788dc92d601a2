#include <lowrank/train/history.h>

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

namespace lowrank {
namespace {

TEST(History, ComesBackFromJson) {
  TrainHistory history;
  history.points = {{1, 0.1, 1e-3}, {4, 1.0 / 3, 2e-3}};
  history.validations = {{4, 0.7, {{"accuracy", 0.25}, {"broken", std::nan("")}}}, {8, 0.6, {}}};
  const auto text = to_json(history).dump();
  const auto found = history_from_json(nlohmann::ordered_json::parse(text));
  EXPECT_EQ(to_json(found).dump(), text);
  EXPECT_EQ(found.points[1].loss, 1.0 / 3);
  ASSERT_EQ(found.validations[0].metrics.size(), 2U);
  EXPECT_TRUE(std::isnan(found.validations[0].metrics[1].second));
  EXPECT_EQ(found.validations[1].loss, 0.6);
}

TEST(History, RefusesOtherJson) {
  for (const auto* text : {"{}", "[]", R"({"points": [[1, 2]], "validations": []})",
                           R"({"points": [], "validations": [{"step": 1}]})",
                           R"({"points": [["a", 1, 1]], "validations": []})"}) {
    EXPECT_THROW(history_from_json(nlohmann::ordered_json::parse(text)), nlohmann::json::exception)
        << text;
  }
}

}  // namespace
}  // namespace lowrank
