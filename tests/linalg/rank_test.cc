// Covers src/linalg/numerical_rank.cc and rank_rule.cc.

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <lowrank/error.h>
#include <lowrank/linalg/numerical_rank.h>
#include <lowrank/linalg/rank_rule.h>
#include <lowrank/linalg/thin_svd.h>

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

/// The numbers of resize_lora.py's own code for S = 8, 4, 2, 1, .5, .25: each rule gives 3.
TEST(RankRule, ChoosesAsKohyasResize) {
  const std::vector<double> s = {8, 4, 2, 1, 0.5, 0.25};
  EXPECT_EQ(chosen(RankRule::sv_ratio(3), s), 3);
  EXPECT_EQ(chosen(RankRule::sv_cumulative(0.75), s), 3);
  EXPECT_EQ(chosen(RankRule::sv_fro(0.9), s), 3);
  EXPECT_EQ(chosen(RankRule::sv_ratio(1), s), 2) << "k is at least 1";
  EXPECT_EQ(chosen(RankRule::sv_ratio(1e9), s), 6) << "k is at most min(m, n) - 1";
  EXPECT_EQ(chosen(RankRule::sv_fro(1), s), 6);
  for (const auto& rule :
       {RankRule::sv_ratio(9), RankRule::sv_cumulative(0.5), RankRule::sv_fro(0.5)}) {
    EXPECT_EQ(chosen(rule, {1e-6, 1e-7}), 1);
    EXPECT_EQ(chosen(rule, {0, 0}), 1);
    EXPECT_EQ(chosen(rule, {5}), 1);
  }
}

TEST(RankRule, StaysWithinItsLimits) {
  const std::vector<double> s = {8, 4, 2, 1};
  EXPECT_EQ(chosen(RankRule::energy(0.99).within(1, 2), s), 2);
  EXPECT_EQ(chosen(RankRule::energy(0.5).within(3, 9), s), 3);
  EXPECT_EQ(chosen(RankRule::tolerance(9).within(7, 9), s), 4) << "no more than min(m, n)";
  EXPECT_EQ(chosen(RankRule::energy(0.5).within(1, 1), {0, 0}), 1);
  EXPECT_EQ(RankRule::at_most(5).within(1, 3).known_rank(10, 10), 3);
  LOWRANK_EXPECT_ERROR(RankRule::energy(0.5).within(3, 2), ArgumentError, "Got 3 and 2.");
  LOWRANK_EXPECT_ERROR(RankRule::energy(0.5).within(0, 2), ArgumentError, "Got 0 and 2.");
}

/// The thresholds of the paper: 4/√3 and 2.858 for a square matrix, and its formula for others.
TEST(RankRule, FindsTheRankBelowNoise) {
  const auto above = [](double threshold, int64_t rows, int64_t columns, const RankRule& rule) {
    auto s = at::ones({std::min(rows, columns)}, at::kDouble);
    s[0] = threshold * 1.001;
    const auto one = rule.choose(s, rows, columns);
    s[0] = threshold * 0.999;
    return one == 1 && rule.choose(s, rows, columns) == 0;
  };
  EXPECT_TRUE(above(2.8582, 100, 100, RankRule::noise()));
  EXPECT_TRUE(above(4 / std::sqrt(3) * std::sqrt(100) * 2, 100, 100, RankRule::noise(2)));
  for (const double beta : {0.1, 0.3, 0.5, 0.8}) {
    const double formula = 0.56 * std::pow(beta, 3) - 0.95 * beta * beta + 1.82 * beta + 1.43;
    auto s = at::ones({static_cast<int64_t>(1000 * beta)}, at::kDouble);
    for (const double sign : {-1.0, 1.0}) {
      s[0] = formula + sign * 0.02;  // its accuracy
      EXPECT_EQ(RankRule::noise().choose(s, s.numel(), 1000), sign > 0 ? 1 : 0) << beta;
    }
  }
  at::manual_seed(0);
  const auto signal = at::randn({300, 8}, at::kDouble).mm(at::randn({8, 200}, at::kDouble));
  const auto s = singular_values(signal + 0.7 * at::randn({300, 200}, at::kDouble));
  EXPECT_EQ(RankRule::noise().choose(s, 300, 200), 8);
  EXPECT_EQ(RankRule::noise(0.7).choose(s, 300, 200), 8);
  LOWRANK_EXPECT_ERROR(RankRule::noise(0), ArgumentError, "must be finite and above 0. Got 0.");
}

TEST(RankRule, SaysWhatItIs) {
  EXPECT_EQ(RankRule::numerical().text(), "numerical rank");
  EXPECT_EQ(RankRule::number(3).text(), "rank 3");
  EXPECT_EQ(RankRule::at_most(3).text(), "rank at most 3");
  EXPECT_EQ(RankRule::energy(0.9).within(2, 64).text(), "energy 0.9, rank 2 to 64");
  EXPECT_EQ(RankRule::max_error(0.1).text(), "max-error 0.1");
  EXPECT_EQ(RankRule::tolerance(0.1).text(), "tolerance 0.1");
  EXPECT_EQ(RankRule::sv_ratio(3).text(), "sv-ratio 3");
  EXPECT_EQ(RankRule::sv_cumulative(0.5).text(), "sv-cumulative 0.5");
  EXPECT_EQ(RankRule::sv_fro(0.5).text(), "sv-fro 0.5");
  EXPECT_EQ(RankRule::noise().text(), "noise");
  EXPECT_EQ(RankRule::noise(0.25).text(), "noise-sigma 0.25");
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
