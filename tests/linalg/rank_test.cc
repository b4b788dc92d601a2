// Covers src/linalg/numerical_rank.cc and rank_rule.cc.

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <lowrank/error.h>
#include <lowrank/linalg/numerical_rank.h>
#include <lowrank/linalg/rank_rule.h>

#include <cmath>
#include <limits>

#include "support/expect_error.h"

namespace lowrank {
namespace {

constexpr auto kNaN = std::numeric_limits<double>::quiet_NaN();
constexpr auto kInf = std::numeric_limits<double>::infinity();

at::Tensor diagonal(std::initializer_list<double> values, at::ScalarType dtype = at::kDouble) {
  return at::diag(at::tensor(std::vector<double>(values), at::kDouble)).to(dtype);
}

TEST(NumericalRank, FollowsNumPysRule) {
  // numpy.linalg.matrix_rank: S > S.max() * max(M, N) * eps(dtype), strictly.
  const double edge = 3 * std::numeric_limits<double>::epsilon();
  EXPECT_EQ(numerical_rank(diagonal({1, 0.5, edge * 1.01})), 3);
  EXPECT_EQ(numerical_rank(diagonal({1, 0.5, edge})), 2);
  EXPECT_EQ(numerical_rank(diagonal({1, 0.5, edge * 1e6})), 3);
  EXPECT_EQ(numerical_rank(diagonal({1, 0.5, edge * 1e6}, at::kFloat)), 2);
  EXPECT_EQ(numerical_rank(at::zeros({4, 3})), 0);
  EXPECT_EQ(numerical_rank(diagonal({1e308, 1e308, 1e307})), 3) << "where 3 x 1e308 overflows";
}

TEST(NumericalRank, CountsTheLongerSide) {
  // eps · 1000 is 1.2e-4 in float32, so the second value counts only in a 2 x 2 matrix.
  auto w = at::zeros({2, 1000});
  w[0][0] = 1;
  w[1][1] = 1e-4;
  EXPECT_EQ(numerical_rank(w), 1);
  EXPECT_EQ(numerical_rank(w.slice(1, 0, 2)), 2);
  EXPECT_EQ(numerical_rank(w.t()), 1);
}

TEST(NumericalRank, TakesAnAbsoluteTolerance) {
  const auto w = diagonal({30, 20, 10});
  EXPECT_EQ(numerical_rank(w, 0.0), 3);
  EXPECT_EQ(numerical_rank(w, 15), 2);
  EXPECT_EQ(numerical_rank(w, 30), 0);
  LOWRANK_EXPECT_ERROR(numerical_rank(w, -1.0), ArgumentError,
                       "[rank] the tolerance must be a finite number of at least 0. Got -1.");
}

int64_t chosen(const RankRule& rule, const std::vector<double>& s) {
  const auto count = static_cast<int64_t>(s.size());
  return rule.choose(at::tensor(s, at::kDouble), count, count + 2);
}

TEST(RankRule, EnergyTakesTheSmallestSufficientRank) {
  const std::vector<double> s = {3, 2, 1, 0};  // squares 9, 4, 1, 0 of 14
  EXPECT_EQ(chosen(RankRule::energy(9.0 / 14), s), 1);
  EXPECT_EQ(chosen(RankRule::energy(9.1 / 14), s), 2);
  EXPECT_EQ(chosen(RankRule::energy(13.5 / 14), s), 3);
  EXPECT_EQ(chosen(RankRule::energy(1), s), 3);
  EXPECT_EQ(chosen(RankRule::energy(1e-9), s), 1);
  EXPECT_EQ(chosen(RankRule::energy(0.5), {0, 0}), 0);
  EXPECT_EQ(chosen(RankRule::energy(1), {1e200, 1e200, 1e190}), 2);
  EXPECT_EQ(chosen(RankRule::energy(0.99), {1e-200, 1e-200}), 2);
}

TEST(RankRule, NumberAndToleranceAreTakenAsTheyAre) {
  EXPECT_EQ(chosen(RankRule::number(3), {0, 0, 0}), 3);
  EXPECT_EQ(chosen(RankRule::tolerance(1), {3, 2, 1}), 2);
  EXPECT_EQ(chosen(RankRule::tolerance(0.1), {0.2, 0.1}), 1);
}

TEST(RankRule, ChecksItsRanges) {
  LOWRANK_EXPECT_ERROR(RankRule::number(0), ArgumentError,
                       "[rank] the rank must be at least 1. Got 0.");
  LOWRANK_EXPECT_ERROR(RankRule::number(-3), ArgumentError, "Got -3.");
  LOWRANK_EXPECT_ERROR(RankRule::energy(0), ArgumentError,
                       "the share of the energy must be above 0 and at most 1. Got 0.");
  LOWRANK_EXPECT_ERROR(RankRule::energy(99), ArgumentError, "It is a share, not a percentage.");
  LOWRANK_EXPECT_ERROR(RankRule::energy(kNaN), ArgumentError, "Got nan.");
  LOWRANK_EXPECT_ERROR(RankRule::tolerance(kInf), ArgumentError, "Got inf.");
  LOWRANK_EXPECT_ERROR(RankRule::number(3).require_possible(2, 5), ArgumentError,
                       "the rank of a 2 x 5 matrix must be at most 2. Got 3.");
}

}  // namespace
}  // namespace lowrank
