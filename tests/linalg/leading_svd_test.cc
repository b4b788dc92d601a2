#include "linalg/leading_svd.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>

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
