#include "linalg/randomized_svd.h"

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>

#include "support/orthonormal.h"
#include "support/tolerances.h"

namespace lowrank {
namespace {

constexpr std::array<std::array<int64_t, 2>, 3> kShapes = {{{30, 50}, {50, 30}, {20, 20}}};

TEST(RandomizedSvd, FindsAMatrixOfItsRankExactly) {
  at::manual_seed(0);
  for (const auto& [m, n] : kShapes) {
    const auto w = at::randn({m, 4}, at::kDouble).mm(at::randn({4, n}, at::kDouble));
    const auto [u, s, v] = randomized_svd(w, 4, /*iterations=*/0);
    const double allowed = tolerance(at::kDouble, std::max(m, n)).decomposition;
    EXPECT_EQ(u.sizes(), (std::vector<int64_t>{m, 4}));
    EXPECT_EQ(v.sizes(), (std::vector<int64_t>{n, 4}));
    EXPECT_LE(norm_of((u * s).mm(v.t()) - w), 10 * allowed * norm_of(w));
    EXPECT_LE(distance_from_orthonormal(u), allowed);
    EXPECT_LE(distance_from_orthonormal(v), allowed);
    EXPECT_TRUE((s.slice(0, 1) <= s.slice(0, 0, -1)).all().item<bool>());
  }
}

TEST(RandomizedSvd, IterationsBringItToTheBestApproximation) {
  at::manual_seed(1);
  for (const auto& [m, n] : kShapes) {
    const auto w = at::randn({m, n}, at::kDouble);
    const auto best = norm_of(at::linalg_svdvals(w).slice(0, 5));
    const auto excess = [&](int64_t iterations) {
      const auto [u, s, v] = randomized_svd(w, 5, iterations);
      return norm_of((u * s).mm(v.t()) - w) / best - 1;
    };
    EXPECT_GT(excess(0), 1e-3);
    EXPECT_LE(excess(200), 1e-6);
  }
}

TEST(RandomizedSvd, DrawsOneStartInFloat32) {
  const auto w = at::randn({30, 50}, at::kDouble);
  at::manual_seed(2);
  const auto expected = at::randn({30, 5}).new_empty({3}).uniform_();
  at::manual_seed(2);
  randomized_svd(w, 5, 2);
  EXPECT_TRUE(at::equal(at::empty({3}).uniform_(), expected)) << "R is not (min(m, n), q) floats";
}

TEST(RandomizedSvd, AGeneratorOfItsOwnLeavesTheDefaultOneAlone) {
  const auto w = at::randn({30, 50}, at::kDouble);
  at::manual_seed(3);
  const auto expected = at::rand({3});
  at::manual_seed(3);
  const auto first = randomized_svd(w, 5, 0, at::detail::createCPUGenerator(7)).s;
  EXPECT_TRUE(at::equal(at::rand({3}), expected));
  EXPECT_TRUE(at::equal(randomized_svd(w, 5, 0, at::detail::createCPUGenerator(7)).s, first));
  EXPECT_FALSE(at::equal(randomized_svd(w, 5, 0, at::detail::createCPUGenerator(8)).s, first));
}

}  // namespace
}  // namespace lowrank
