#include "app/data/array_files.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <lowrank/error.h>
#include <lowrank/io/npy.h>
#include <lowrank/io/safetensors.h>

#include <limits>
#include <string>

#include "support/expect_error.h"
#include "support/temporary_folder.h"

namespace lowrank::app {
namespace {

class ArrayFiles : public ::testing::Test {
 protected:
  Dataset pair(const at::Tensor& inputs, const at::Tensor& labels, bool predicts_numbers = false) {
    write_npy(folder_ / "x.npy", inputs);
    write_npy(folder_ / "y.npy", labels);
    return read_arrays(folder_ / "x.npy", {.labels = (folder_ / "y.npy").string(),
                                           .predicts_numbers = predicts_numbers});
  }

  TemporaryFolder folder_;
  const at::Tensor three_ = at::tensor({0, 2, 1}, at::kLong);
};

TEST_F(ArrayFiles, TakesNumbersOfAnyShape) {
  for (const auto dtype : {at::kFloat, at::kDouble}) {
    const auto inputs = at::randn({3, 4, 5}, dtype);
    const auto data = pair(inputs, three_);
    EXPECT_TRUE(at::equal(data.inputs, inputs));
    EXPECT_EQ(data.inputs.scalar_type(), dtype);
    EXPECT_TRUE(at::equal(data.labels, three_));
    EXPECT_EQ(data.classes, 3);
    EXPECT_FALSE(data.holds_images() || data.holds_whole_numbers);
  }
  EXPECT_EQ(pair(at::randn({3, 4}).to(at::kHalf), three_).inputs.scalar_type(), at::kFloat);
  const auto ids = pair(at::arange(12, at::kInt).view({3, 4}), three_);
  EXPECT_TRUE(ids.holds_whole_numbers);
  EXPECT_TRUE(at::equal(ids.inputs, at::arange(12, at::kFloat).view({3, 4})));
}

TEST_F(ArrayFiles, TakesBytesAsImages) {
  const auto pixels = at::randint(256, {3, 3, 8, 6}, at::kByte);
  const auto planes = pair(pixels, three_);
  EXPECT_TRUE(planes.holds_images());
  EXPECT_TRUE(at::equal(planes.inputs, pixels));
  EXPECT_EQ(planes.shape_text(), "3 x 8 x 6");
  const auto last = pair(pixels.permute({0, 2, 3, 1}).contiguous(), three_);
  EXPECT_TRUE(at::equal(last.inputs, pixels));
  const auto gray = pair(pixels.narrow(1, 0, 1).contiguous(), three_);
  EXPECT_TRUE(at::equal(gray.inputs, pixels.select(1, 0)));
  EXPECT_TRUE(at::equal(pair(pixels.select(1, 0).contiguous(), three_).inputs, gray.inputs));
  EXPECT_FALSE(pair(at::randint(256, {3, 8}, at::kByte), three_).holds_images());
}

TEST_F(ArrayFiles, TakesNumbersToPredict) {
  const auto inputs = at::randn({3, 4});
  EXPECT_EQ(pair(inputs, at::randn({3})).labels.sizes(), (at::IntArrayRef{3, 1}));
  EXPECT_EQ(pair(inputs, at::randn({3, 2})).labels.sizes(), (at::IntArrayRef{3, 2}));
  EXPECT_EQ(pair(inputs, at::randn({3, 2})).classes, 0);
  EXPECT_EQ(pair(inputs, three_, /*predicts_numbers=*/true).classes, 0);
}

TEST_F(ArrayFiles, TakesClassesHoweverTheyAreStored) {
  write_npy(folder_ / "x.npy", at::randn({3, 4}));
  const auto classes = [&](const at::Tensor& labels, bool needs_classes) {
    write_npy(folder_ / "y.npy", labels);
    const auto read = read_arrays(folder_ / "x.npy", {.labels = (folder_ / "y.npy").string(),
                                                      .needs_classes = needs_classes});
    return read.classes == 3 && at::equal(read.labels, three_);
  };
  EXPECT_TRUE(classes(three_.view({3, 1}), false));
  EXPECT_TRUE(classes(three_.view({3, 1}), true));
  EXPECT_TRUE(classes(three_.to(at::kFloat), true));
  EXPECT_TRUE(classes(three_.to(at::kDouble).view({3, 1}), true));
  EXPECT_FALSE(classes(three_.to(at::kFloat), false));
  LOWRANK_EXPECT_ERROR(classes(at::tensor({0.0, 0.5, 1.0}), true), FileError,
                       "must be classes for --loss cross-entropy: whole numbers of at least 0, or "
                       "names. Got numbers with decimals.");
  LOWRANK_EXPECT_ERROR(classes(at::randn({3, 2}), true), FileError, "Got numbers of shape (3, 2).");
  LOWRANK_EXPECT_ERROR(classes(at::eye(3, at::kLong), false), FileError,
                       "They seem to be one-hot: give numpy.argmax(labels, axis=1).");
  LOWRANK_EXPECT_ERROR(classes(at::full({3, 2}, 7, at::kLong), false), FileError,
                       "Got whole numbers of shape (3, 2). Pass --loss mse");
}

TEST_F(ArrayFiles, TakesASafetensorsFile) {
  const auto inputs = at::randn({3, 4});
  write_safetensors(folder_ / "set.safetensors", {{"inputs", inputs}, {"labels", three_}});
  const auto data = read_arrays(folder_ / "set.safetensors", {});
  EXPECT_TRUE(at::equal(data.inputs, inputs));
  EXPECT_TRUE(at::equal(data.labels, three_));
  write_safetensors(folder_ / "set.safetensors", {{"x", inputs}, {"labels", three_}});
  LOWRANK_EXPECT_ERROR(read_arrays(folder_ / "set.safetensors", {}), FileError,
                       "must hold the tensors \"inputs\" and \"labels\". Got labels, x.");
}

TEST_F(ArrayFiles, RefusesWhatDoesNotFit) {
  const auto inputs = at::randn({3, 4});
  write_npy(folder_ / "x.npy", inputs);
  LOWRANK_EXPECT_ERROR(read_arrays(folder_ / "x.npy", {}), ArgumentError,
                       "[data] --labels must name the .npy file with the labels of");
  LOWRANK_EXPECT_ERROR(pair(inputs, at::zeros({2}, at::kLong)), FileError,
                       "must be one for each of the 3 examples. Got 2.");
  LOWRANK_EXPECT_ERROR(pair(inputs, at::zeros({3, 2}, at::kLong)), FileError,
                       "Got whole numbers of shape (3, 2).");
  LOWRANK_EXPECT_ERROR(pair(inputs, at::tensor({0, 1, 1'000'000}, at::kLong)), FileError,
                       "must be classes of 0 to 999999. Got 1000000. Pass --loss mse");
  for (const auto dtype : {at::kLong, at::kByte, at::kBool, at::kFloat}) {
    LOWRANK_EXPECT_ERROR(pair(inputs, at::zeros({3, 0}, dtype)), FileError,
                         "one number or more for each example. Got an array of shape (3, 0).");
  }
  const auto least = at::full({3, 2}, std::numeric_limits<int64_t>::min(), at::kLong);
  LOWRANK_EXPECT_ERROR(pair(least, three_), FileError, "Got -9223372036854775808.");
  LOWRANK_EXPECT_ERROR(pair(at::randn({3}), three_), FileError,
                       "must have shape (N, ...). Got (3).");
  LOWRANK_EXPECT_ERROR(pair(at::zeros({0, 4}), at::zeros({0})), FileError, "Got (0, 4).");
  auto broken = inputs.clone();
  broken[1][2] = std::numeric_limits<double>::quiet_NaN();
  LOWRANK_EXPECT_ERROR(pair(broken, three_), FileError,
                       "must be finite as float32. Got NaN, Inf or larger numbers.");
  LOWRANK_EXPECT_ERROR(pair(at::full({3, 2}, (int64_t{1} << 24) + 1, at::kLong), three_), FileError,
                       "must be -16777216 to 16777216. Got 16777217.");
}

}  // namespace
}  // namespace lowrank::app
