

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <lowrank/error.h>
#include <lowrank/linalg/leading_svd.h>

#include <cmath>

#include "support/expect_error.h"
#include "support/orthonormal.h"

namespace lowrank {
namespace {

at::Tensor with_spectrum(const at::Tensor& s, int64_t rows, int64_t columns) {
  const auto u = std::get<0>(at::linalg_qr(at::randn({rows, s.size(0)}, at::kDouble)));
  const auto v = std::get<0>(at::linalg_qr(at::randn({columns, s.size(0)}, at::kDouble)));
  return (u * s).mm(v.t());
}

/// The spectra that low-rank approximation meets: falling fast, slowly, in steps, and not at all.
TEST(LeadingSvd, IsWithinAHundredthOfTheOptimum) {
  at::manual_seed(0);
  constexpr int64_t kRank = 12;
  const auto i = at::arange(400, at::kDouble);
  const auto flat = at::ones({400}, at::kDouble);
  const std::vector<std::pair<const char*, at::Tensor>> spectra = {
      {"fast", at::pow(0.8, i)},
      {"1/(1+i)", 1 / (1 + i)},
      {"slow", 1 / (1 + i).sqrt()},
      {"flat", flat},
      {"clustered", at::where(i.lt(20), flat, flat * 0.3)},
      {"gap", at::where(i.lt(kRank), flat, flat * 1e-6)}};
  for (const auto& [name, s] : spectra) {
    for (const auto& [rows, columns] : {std::pair(600, 400), std::pair(400, 900)}) {
      SCOPED_TRACE(testing::Message() << name << ", " << rows << " x " << columns);
      const auto w = with_spectrum(s, rows, columns);
      const auto svd = leading_svd(w, RankRule::at_most(kRank));
      ASSERT_EQ(svd.s.size(0), kRank);
      EXPECT_LE(distance_from_orthonormal(svd.u), 1e-10);
      const double error = norm_of(w - (svd.u * svd.s).mm(svd.v.t()));
      const double optimum = norm_of(s.narrow(0, kRank, s.size(0) - kRank));
      EXPECT_LE(error, 1.01 * optimum);
      EXPECT_GE(error, optimum * (1 - 1e-9));
    }
  }
}

/// float32 matrices are decomposed in float32, whose rounding is all that may be added.
TEST(LeadingSvd, TakesFloatsAndMatricesThatLieAcross) {
  at::manual_seed(2);
  const auto s = 1 / (1 + at::arange(300, at::kDouble));
  const auto w = with_spectrum(s, 500, 300);
  const double optimum = norm_of(s.narrow(0, 10, 290));
  for (const auto& given : {w.to(at::kFloat), w.t().contiguous().to(at::kFloat).t(), w * 1e-30}) {
    const auto svd = leading_svd(given, RankRule::number(10));
    ASSERT_EQ(svd.s.size(0), 10);
    EXPECT_EQ(svd.u.scalar_type(), given.scalar_type());
    const double scale = given.scalar_type() == at::kDouble ? 1e-30 : 1;
    const auto wide = given.to(at::kDouble) / scale;
    const auto approximation = (svd.u * svd.s).to(at::kDouble).mm(svd.v.t().to(at::kDouble));
    EXPECT_LE(norm_of(wide - approximation / scale), 1.01 * optimum);
    EXPECT_LE(distance_from_orthonormal(svd.v.to(at::kDouble)), 1e-5);
    EXPECT_NEAR(svd.s[0].item<double>() / scale, 1, 1e-5);
  }
  const auto zero = leading_svd(at::zeros({400, 300}), RankRule::number(3));
  EXPECT_EQ(zero.s.abs().max().item<float>(), 0);
  LOWRANK_EXPECT_ERROR(leading_svd(w, RankRule::number(301)), ArgumentError, "must be at most 300");
}

/// A matrix of low rank ends the iteration early, with nothing left to find.
TEST(LeadingSvd, FindsAMatrixOfLowRankExactly) {
  at::manual_seed(3);
  const auto w = at::randn({400, 5}, at::kDouble).mm(at::randn({5, 300}, at::kDouble));
  const auto svd = leading_svd(w, RankRule::at_most(12));
  EXPECT_LE(norm_of(w - (svd.u * svd.s).mm(svd.v.t())), 1e-10 * norm_of(w));
  EXPECT_LE(distance_from_orthonormal(svd.u), 1e-10);
  EXPECT_LE(distance_from_orthonormal(svd.v), 1e-10);
  EXPECT_LE(svd.s[5].item<double>(), 1e-10 * svd.s[0].item<double>());
}

TEST(LeadingSvd, GivesEverythingWhereTheRuleAsksForIt) {
  at::manual_seed(1);
  const auto w = at::randn({300, 200}, at::kDouble);
  EXPECT_EQ(leading_svd(w, RankRule::energy(0.9)).s.size(0), 200);
  EXPECT_EQ(leading_svd(w, RankRule::at_most(50)).s.size(0), 200) << "LAPACK is quicker";
  const auto one = leading_svd(w, RankRule::at_most(4)),
             other = leading_svd(w, RankRule::at_most(4));
  EXPECT_EQ(one.s.size(0), 4);
  EXPECT_TRUE(at::equal(one.u, other.u)) << "it does not depend on what was drawn before";
}

}  // namespace
}  // namespace lowrank
