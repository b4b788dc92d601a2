#include "linalg/equal_noise.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <lowrank/linalg/rank_rule.h>
#include <lowrank/linalg/thin_svd.h>

namespace lowrank {
namespace {

/// Rows and columns of weights differ in size by far, and so does what bfloat16 rounds off.
TEST(EqualNoise, LetsTheRankBelowRoundingBeFound) {
  at::manual_seed(0);
  const auto rows = at::pow(10.0, at::linspace(-1, 1, 240, at::kDouble)).unsqueeze(1);
  const auto base = at::randn({240, 160}, at::kDouble) * rows;
  const auto change = at::randn({240, 4}, at::kDouble).mm(at::randn({4, 160}, at::kDouble));
  for (const auto dtype : {at::kBFloat16, at::kHalf}) {
    const auto before = base.to(dtype), after = (base + change * rows).to(dtype);
    const auto difference = after.to(at::kDouble) - before.to(at::kDouble);
    const auto rank_of = [](const at::Tensor& w) {
      return RankRule::noise().choose(singular_values(w), w.size(0), w.size(1));
    };
    EXPECT_GT(rank_of(difference), 4) << "the noise of the large rows is above the threshold";
    EXPECT_EQ(rank_of(with_equal_noise(difference, before, after)), 4);
  }
}

TEST(EqualNoise, LeavesZerosAlone) {
  const auto zero = at::zeros({3, 4}), some = at::eye(4).narrow(0, 0, 3);
  const auto scaled = with_equal_noise(some.to(at::kDouble), zero, some);
  EXPECT_TRUE(at::isfinite(scaled).all().item<bool>());
  EXPECT_TRUE(at::isfinite(with_equal_noise(zero.to(at::kDouble), zero, zero)).all().item<bool>());
}

}  // namespace
}  // namespace lowrank
