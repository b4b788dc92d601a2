#include "linalg/norm_in_float64.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace lowrank {
namespace {

TEST(NormInFloat64, IsSummedInFloat64) {
  EXPECT_EQ(norm_in_float64(at::tensor({3.0F, 4.0F})), 5);
  EXPECT_EQ(norm_in_float64(at::tensor({3, 4})), 5);
  EXPECT_EQ(norm_in_float64(at::zeros({0, 4})), 0);
  const auto many = at::full({3000, 1000}, 0.1, at::kFloat);
  const double expected = std::sqrt(3e6) * static_cast<double>(0.1F);
  for (const auto& x : {many, many.t(), many.slice(0, 0, 3000)}) {
    EXPECT_NEAR(norm_in_float64(x) / expected, 1, 1e-12);
  }
  EXPECT_NEAR(norm_in_float64(many.to(at::kBFloat16)),
              many.to(at::kBFloat16).to(at::kDouble).norm().item<double>(), 1e-9);
  EXPECT_NEAR(norm_in_float64(many.slice(1, 0, 1000, 2)), expected / std::sqrt(2), 1e-9);
}

TEST(NormInFloat64, HoldsWhatSquaresDoNot) {
  for (const double size : {1e-320, 1e-200, 1e200, 1e300}) {
    EXPECT_NEAR(norm_in_float64(at::tensor({3 * size, 4 * size}, at::kDouble)) / (5 * size), 1,
                size < 1e-300 ? 1e-3 : 1e-12);
  }
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  EXPECT_EQ(norm_in_float64(at::tensor({1.0, kInfinity})), kInfinity);
  EXPECT_TRUE(std::isnan(norm_in_float64(at::tensor({1.0, std::nan("")}))));
}

}  // namespace
}  // namespace lowrank
