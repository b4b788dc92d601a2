#include "linalg/product_svd.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>

#include "support/orthonormal.h"
#include "support/tolerances.h"

namespace lowrank {
namespace {

TEST(ProductSvd, IsTheDecompositionOfTheProduct) {
  at::manual_seed(0);
  // Tall, wide, square, and with an inner dimension above one or both of the outer ones.
  constexpr std::array<std::array<int64_t, 3>, 6> kShapes = {
      {{40, 3, 7}, {5, 2, 60}, {9, 9, 9}, {6, 8, 20}, {6, 30, 20}, {1, 4, 1}}};
  for (const auto& [m, r, n] : kShapes) {
    SCOPED_TRACE(testing::Message() << m << " x " << r << " x " << n);
    const auto b = at::randn({m, r}, at::kDouble);
    const auto a = at::randn({r, n}, at::kDouble);
    const auto w = b.mm(a);
    const auto [u, s, v] = product_svd(b, a);
    const double allowed = tolerance(at::kDouble, std::max({m, r, n})).decomposition;
    ASSERT_EQ(s.size(0), std::min({m, r, n}));
    EXPECT_LE(norm_of((u * s).mm(v.t()) - w), allowed * norm_of(w));
    EXPECT_LE(distance_from_orthonormal(u), allowed * 10);
    EXPECT_LE(distance_from_orthonormal(v), allowed * 10);
    EXPECT_LE(norm_of(s - at::linalg_svdvals(w).narrow(0, 0, s.size(0))), allowed * norm_of(w));
  }
}

TEST(ProductSvd, DoesNotFormTheProduct) {
  at::manual_seed(1);
  constexpr int64_t kSize = 300000;  // the product would take 720 GB
  const auto b = at::randn({kSize, 2}, at::kDouble);
  const auto a = at::randn({2, kSize}, at::kDouble);
  const auto s = product_svd(b, a).s;
  const double squared = b.t().mm(b).mul(a.mm(a.t())).sum().item<double>();  // ‖B·A‖_F²
  EXPECT_NEAR(s.square().sum().item<double>() / squared, 1, 1e-12);
}

}  // namespace
}  // namespace lowrank
