#include "app/data/preparation.h"

#include <gtest/gtest.h>
#include <lowrank/error.h>

#include <nlohmann/json.hpp>
#include <string>

#include "support/expect_error.h"

namespace lowrank::app {
namespace {

Preparation read_back(const Preparation& preparation, int64_t inputs, int64_t outputs) {
  nlohmann::ordered_json json;
  add_preparation(json, preparation);
  return read_preparation(nlohmann::json::parse(json.dump()), inputs, outputs, "config.json");
}

TEST(Preparation, ComesBack) {
  const Preparation images = {.normalization = {{0.1, 0.2, 0.3}, {1, 2, 3}},
                              .channels = 3,
                              .height = 4,
                              .width = 5,
                              .class_names = {"cat", "dog"}};
  EXPECT_EQ(read_back(images, 60, 2), images);
  EXPECT_EQ(read_back(images, 0, 0), images) << "numbers of a model that are not known";
  const Preparation numbers = {.normalization = {{0.1, 0.2}, {1, 2}},
                               .takes_images = false,
                               .columns = {"a", "b"},
                               .label_column = "price",
                               .has_classes = false};
  EXPECT_EQ(read_back(numbers, 2, 1), numbers);
  const Preparation gray = {.channels = 1, .height = 2, .width = 3};
  EXPECT_EQ(read_back(gray, 6, 10), gray);
}

TEST(Preparation, RefusesWhatDoesNotFitTheModel) {
  const auto refuses = [](const std::string& text, const std::string& message) {
    LOWRANK_EXPECT_ERROR(
        read_preparation(nlohmann::json::parse(text), /*inputs=*/12, /*outputs=*/2, "config.json"),
        FileError, message);
  };
  refuses(R"({"image_mean": []})",
          "must hold a finite number image_mean, or a list of them. Got [].");
  refuses(R"({"image_mean": [1, "2"]})", "Got [1,\"2\"].");
  refuses(R"({"image_mean": [1, 2, 3]})",
          "must hold one mean and deviation, or one for each channel or input. Got 3 and 1.");
  refuses(R"({"input_mean": 0, "input_deviation": [1, 2]})", "Got 1 and 2.");
  refuses(R"({"image_height": 2, "image_width": 2, "image_channels": 2})",
          "must hold image_height and image_width, and image_channels, whose product is 12. Got 2 "
          "and 2, 2.");
  refuses(R"({"image_height": 2, "image_width": 2, "image_channels": 0})", "Got 2 and 2, 0.");
  refuses(R"({"class_names": ["one"]})", "must hold class_names, a list of 2 names. Got 1 names.");
  refuses(R"({"class_names": [1, 2]})", "must hold class_names, a list of 2 names. Got [1,2].");
  refuses(R"({"columns": ["a"]})", "must hold columns, a list of 12 names. Got 1 names.");
  refuses(R"({"columns": "a"})", "must hold columns, a list of 12 names. Got \"a\".");
  refuses(R"({"label_column": 3})", "must hold a string as label_column. Got 3.");
  refuses(R"({"task": "ranking"})", "must hold task \"regression\", or none. Got \"ranking\".");
}

}  // namespace
}  // namespace lowrank::app
