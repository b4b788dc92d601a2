#include "app/images/resize.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <vector>

namespace lowrank::app {
namespace {

/// Weights (to, from) of the antialiased bilinear filter: a triangle around the centre of each new
/// pixel, as wide as an old pixel, or as a new one if that is wider (Pillow, Resample.c).
at::Tensor triangle(int64_t from, int64_t to) {
  const auto weights = at::zeros({to, from}, at::kDouble);
  const double scale = static_cast<double>(from) / static_cast<double>(to);
  const double support = std::max(1.0, scale);
  for (int64_t i = 0; i < to; ++i) {
    const double centre = (static_cast<double>(i) + 0.5) * scale;
    for (int64_t j = 0; j < from; ++j) {
      const double distance = std::abs(static_cast<double>(j) + 0.5 - centre) / support;
      weights[i][j] = std::max(0.0, 1 - distance);
    }
  }
  return weights / weights.sum(1, /*keepdim=*/true);
}

TEST(Resize, IsAntialiasedBilinear) {
  at::manual_seed(5);
  for (const auto& [height, width] : std::vector<std::pair<int64_t, int64_t>>{
           {7, 9}, {28, 28}, {3, 40}, {40, 3}, {1, 1}, {13, 17}}) {
    const auto image = at::randint(256, {3, 13, 17}, at::kByte);
    const auto exact = at::matmul(at::matmul(triangle(13, height), image.to(at::kDouble)),
                                  triangle(17, width).t());
    const auto resized = resize_image(image, height, width);
    EXPECT_EQ(resized.sizes(), (at::IntArrayRef{3, height, width}));
    EXPECT_EQ(resized.scalar_type(), at::kByte);
    // Rounded to the nearest, except where float32 rounds to the other side of a half.
    EXPECT_LE((resized.to(at::kDouble) - exact).abs().max().item<double>(), 0.5 + 1e-3)
        << height << " x " << width;
    EXPECT_TRUE(at::equal(resize_image(image[1], height, width), resized[1]));
  }
}

TEST(Resize, LeavesAnImageOfThatSizeAsItIs) {
  const auto image = at::randint(256, {13, 17}, at::kByte);
  EXPECT_TRUE(resize_image(image, 13, 17).is_same(image));
}

}  // namespace
}  // namespace lowrank::app
