#include "adapter/init/pissa.h"

#include <ATen/ATen.h>
#include <lowrank/error.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "adapter/init/init_support.h"
#include "support/expect_error.h"
#include "support/tolerances.h"

namespace lowrank::init {
namespace {

constexpr double kPissaScaling = 1.75;

TEST(Pissa, IsTheBestApproximationOfTheWeight) {
  at::manual_seed(0);
  constexpr std::array<std::array<int64_t, 2>, 3> kShapes = {{{20, 33}, {40, 15}, {16, 16}}};
  for (const auto& [out, in] : kShapes) {
    for (const auto dtype : {at::kDouble, at::kFloat, at::kHalf}) {
      const auto w = at::randn({out, in}, at::kDouble).to(dtype);
      const auto pair = pissa(w, 4, kPissaScaling);
      ASSERT_EQ(pair.a.sizes(), (std::vector<int64_t>{4, in}));
      ASSERT_EQ(pair.b.sizes(), (std::vector<int64_t>{out, 4}));
      EXPECT_EQ(pair.a.scalar_type(), dtype == at::kDouble ? at::kDouble : at::kFloat);
      const auto rest = w.to(at::kDouble) - kPissaScaling * product(pair);
      EXPECT_NEAR(length(rest) / truncation_error(w, 4), 1, 1e-6);
    }
  }
}

TEST(Pissa, SharesTheSingularValuesEvenly) {
  at::manual_seed(1);
  const auto w = at::randn({12, 9}, at::kDouble);
  const auto [a, b] = pissa(w, 3, kPissaScaling);
  const auto wanted = at::diag(at::linalg_svdvals(w).slice(0, 0, 3) / kPissaScaling);
  const double allowed = tolerance(at::kDouble, 12).decomposition;
  EXPECT_LE(difference(a.mm(a.t()), wanted), allowed);
  EXPECT_LE(difference(b.t().mm(b), wanted), allowed);
}

TEST(Pissa, OfFullRankIsTheWeight) {
  at::manual_seed(2);
  const auto w = at::randn({5, 8}, at::kDouble);
  EXPECT_LE(difference(kPissaScaling * product(pissa(w, 5, kPissaScaling)), w),
            tolerance(at::kDouble, 8).decomposition);
}

TEST(PissaRandomized, IsNearTheBestApproximationWhereTheSpectrumFalls) {
  at::manual_seed(3);
  const auto w = decaying(40, 60, 0.5);
  const auto pair = pissa_randomized(w, 4, kPissaScaling, /*iterations=*/4);
  const auto error = length(w - kPissaScaling * product(pair));
  EXPECT_LE(error / truncation_error(w, 4), 1 + 1e-3);
}

TEST(Pissa, EqualsPefts) {
  const PeftFactors peft;
  EXPECT_LE(difference(product(pissa(peft.weight(), 3, 2)), product(peft.of("pissa"))), 1e-5);
  peft.seed(3);
  const auto found = pissa_randomized(peft.weight(), 3, 2, 4);
  EXPECT_LE(difference(product(found), product(peft.of("pissa_niter"))), 1e-5);
  EXPECT_GT(difference(product(found), product(peft.of("pissa"))), 1e-3) << "nothing was drawn";
}

TEST(Pissa, RefusesWhatCannotBe) {
  const auto w = at::ones({5, 8});
  LOWRANK_EXPECT_ERROR(pissa(w, 6, 1), ArgumentError,
                       "[pissa] the rank must be at least 1 and at most the smaller of out and in, "
                       "5. Got 6.");
  LOWRANK_EXPECT_ERROR(pissa_randomized(w, 0, 1, 2), ArgumentError, "Got 0.");
  for (const double scaling : {0.0, -1.0, std::nan("")}) {
    LOWRANK_EXPECT_ERROR(pissa(w, 2, scaling), ArgumentError,
                         "[pissa] the scaling must be finite and above 0. Got ");
  }
  LOWRANK_EXPECT_ERROR(pissa_randomized(w, 2, 1, -1), ArgumentError,
                       "[pissa] the number of iterations must be at least 0. Got -1.");
  LOWRANK_EXPECT_ERROR(pissa(w / 0, 2, 1), TensorError,
                       "[pissa] W must hold only finite numbers. Got 40 Inf");
}

}  // namespace
}  // namespace lowrank::init
