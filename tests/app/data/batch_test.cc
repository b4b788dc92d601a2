#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>
#include <lowrank/error.h>

#include <limits>

#include "app/data/dataset.h"
#include "support/expect_error.h"

namespace lowrank::app {
namespace {

/// Returns 40 images of 16 x 16 that hold every pixel value.
Dataset all_values() {
  const at::Tensor pixels = at::arange(40 * 256, at::kLong) * 7 + 3;
  return {pixels.remainder(256).to(at::kByte).view({40, 16, 16}),
          at::arange(40, at::kLong).remainder(10), "all", 10};
}

/// Does what torchvision's ToTensor and Normalize do, operation by operation.
at::Tensor torchvision(const at::Tensor& images, const Normalization& normalization,
                       at::ScalarType dtype) {
  const at::Tensor mean = at::tensor(normalization.mean).to(dtype);
  const at::Tensor deviation = at::tensor(normalization.deviation).to(dtype);
  return images.to(dtype).div(255).sub_(mean).div_(deviation).flatten(1);
}

TEST(Batch, EqualsTorchvisionBitForBit) {
  const auto set = all_values();
  const at::Tensor indices = at::tensor({5, 0, 39, 5, 17}, at::kLong);
  const at::Tensor images = set.inputs.index_select(0, indices);
  for (const auto& normalization :
       {Normalization{}, Normalization{{0.5}, {0.5}}, Normalization{{0.2860}, {0.3530}},
        Normalization{{0}, {1}}, Normalization{{-3.7}, {1e-3}}}) {
    const at::Tensor batch = batch_inputs(set, indices, normalization);
    EXPECT_EQ(batch.scalar_type(), at::kFloat);
    EXPECT_TRUE(at::equal(batch, torchvision(images, normalization, at::kFloat)));
    const at::Tensor wide = batch_inputs(set, indices, normalization, at::kDouble);
    EXPECT_TRUE(at::equal(wide, torchvision(images, normalization, at::kDouble)));
    for (const auto half : {at::kHalf, at::kBFloat16}) {
      EXPECT_TRUE(at::equal(batch_inputs(set, indices, normalization, half), batch.to(half)));
    }
    EXPECT_TRUE(at::equal(normalize_images(images, normalization), batch));
    EXPECT_TRUE(at::equal(normalize_images(images[0], normalization), batch.narrow(0, 0, 1)));
  }
}

TEST(Batch, IsTheSameWithAnyNumberOfThreads) {
  const auto set = all_values();
  const at::Tensor indices = at::randint(40, {5000}, at::kLong);
  const int before = at::get_num_threads();
  at::set_num_threads(1);
  const at::Tensor one = batch_inputs(set, indices, {});
  at::set_num_threads(2);
  const at::Tensor two = batch_inputs(set, indices, {});
  at::set_num_threads(before);
  EXPECT_TRUE(at::equal(one, two));
  EXPECT_TRUE(at::equal(one, torchvision(set.inputs.index_select(0, indices), {}, at::kFloat)));
}

TEST(Batch, TakesIndicesOfAnyLayout) {
  const auto set = all_values();
  const at::Tensor strided = at::arange(40, at::kLong).slice(0, 1, 40, 3);
  EXPECT_TRUE(
      at::equal(batch_inputs(set, strided, {}), batch_inputs(set, strided.contiguous(), {})));
  EXPECT_TRUE(at::equal(batch_labels(set, strided), strided.remainder(10)));
  EXPECT_EQ(batch_inputs(set, at::empty({0}, at::kLong), {}).sizes(), (at::IntArrayRef{0, 256}));
}

TEST(Batch, RefusesWrongIndices) {
  const auto set = all_values();
  LOWRANK_EXPECT_ERROR(batch_inputs(set, at::tensor({0, 40}, at::kLong), {}), TensorError,
                       "[data] indices must be 0 to 39. Got 40.");
  LOWRANK_EXPECT_ERROR(batch_labels(set, at::tensor({-1}, at::kLong)), TensorError,
                       "[data] indices must be 0 to 39. Got -1.");
  LOWRANK_EXPECT_ERROR(batch_inputs(set, at::zeros({2, 2}, at::kLong), {}), TensorError,
                       "[data] indices must be int64 of one dimension. Got Long of 2.");
  LOWRANK_EXPECT_ERROR(batch_inputs(set, at::zeros({2}), {}), TensorError, "Got Float of 1.");
}

TEST(Batch, RefusesImpossibleNormalization) {
  const auto set = all_values();
  const at::Tensor indices = at::zeros({1}, at::kLong);
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const double infinity = std::numeric_limits<double>::infinity();
  for (const double deviation : {0.0, -0.0, nan, infinity, 1e-60}) {
    LOWRANK_EXPECT_ERROR(batch_inputs(set, indices, {{0.1}, {deviation}}), ArgumentError,
                         "[data] the deviation that inputs are divided by must be a number that "
                         "float32 can hold and "
                         "invert. Got");
  }
  LOWRANK_EXPECT_ERROR(
      batch_inputs(set, indices, {{nan}, {1}}), ArgumentError,
      "[data] the mean that is subtracted from inputs must be a number that float32 can hold. "
      "Got nan.");
  LOWRANK_EXPECT_ERROR(batch_inputs(set, indices, {}, at::kInt), TensorError,
                       "[data] inputs must be of a floating-point dtype. Got Int.");
}

TEST(Batch, RefusesWhatIsNoImage) {
  LOWRANK_EXPECT_ERROR(
      normalize_images(at::zeros({2, 2}), {}), TensorError,
      "[data] images must be uint8 (N, C, H, W), (N, H, W) or (H, W) on the CPU. Got Float");
  LOWRANK_EXPECT_ERROR(normalize_images({}, {}), TensorError, "Got an undefined tensor.");
}

TEST(Batch, NormalizesEachChannelByItsOwnNumbers) {
  Dataset set;
  set.inputs = at::randint(256, {6, 3, 4, 5}, at::kByte);
  set.labels = at::zeros({6}, at::kLong);
  const Normalization normalization{{0.485, 0.456, 0.406}, {0.229, 0.224, 0.225}};
  const auto indices = at::tensor({4, 1}, at::kLong);
  const auto shape = [](const std::vector<double>& list) {
    return at::tensor(list).to(at::kFloat).view({3, 1, 1});
  };
  const auto expected = set.inputs.index_select(0, indices)
                            .to(at::kFloat)
                            .div(255)
                            .sub_(shape(normalization.mean))
                            .div_(shape(normalization.deviation))
                            .flatten(1);
  EXPECT_TRUE(at::equal(batch_inputs(set, indices, normalization), expected));
  LOWRANK_EXPECT_ERROR(
      batch_inputs(set, indices, {{0.1, 0.2}, {1}}), ArgumentError,
      "[data] --mean must be one number, or 3 numbers, one for each channel of the "
      "images. Got 2.");
}

TEST(Batch, NormalizesNumbersInFloat64) {
  Dataset set;
  set.inputs = at::randn({6, 2}, at::kDouble);
  set.labels = at::zeros({6, 1});
  set.classes = 0;
  const auto indices = at::tensor({5, 0, 5}, at::kLong);
  const auto rows = set.inputs.index_select(0, indices);
  const auto expected = (rows - at::tensor({1.0, -2.0})) / at::tensor({3.0, 0.5});
  const Normalization normalization{{1, -2}, {3, 0.5}};
  EXPECT_TRUE(at::equal(batch_inputs(set, indices, normalization, at::kDouble), expected));
  EXPECT_TRUE(at::equal(batch_inputs(set, indices, normalization), expected.to(at::kFloat)));
  EXPECT_EQ(batch_labels(set, indices).sizes(), (at::IntArrayRef{3, 1}));
  LOWRANK_EXPECT_ERROR(
      batch_inputs(set, indices, {{0}, {1, 1, 1}}), ArgumentError,
      "[data] --deviation must be one number, or 2 numbers, one for each number of "
      "an example. Got 3.");
}

}  // namespace
}  // namespace lowrank::app
