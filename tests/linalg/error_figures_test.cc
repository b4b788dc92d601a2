#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <lowrank/error.h>
#include <lowrank/linalg/error_figures.h>
#include <lowrank/linalg/factorize.h>

#include <cmath>
#include <limits>

#include "linalg/spectral_norm.h"
#include "support/expect_error.h"

namespace lowrank {
namespace {

TEST(ErrorFigures, MeasuresAKnownResidual) {
  const auto w = at::tensor({3.0, 0.0, 0.0, 1.0}, at::kDouble).view({2, 2});
  const auto b = at::tensor({1.0, 0.0}, at::kDouble).view({2, 1});
  const auto a = at::tensor({3.0, 4.0}, at::kDouble).view({1, 2});
  const auto figures = error_figures(w, b, a);  // the residual is (0 -4; 0 1)
  EXPECT_DOUBLE_EQ(figures.frobenius, std::sqrt(17.0));
  EXPECT_DOUBLE_EQ(figures.relative_frobenius, std::sqrt(17.0 / 10));
  EXPECT_NEAR(figures.spectral, std::sqrt(17.0), 1e-14);
  EXPECT_NEAR(figures.retained_energy, 1 - 1.7, 1e-15);
  EXPECT_DOUBLE_EQ(figures.largest_entry, 4);
}

TEST(ErrorFigures, SeesWhatFloat32WouldHide) {
  // In float32, 1 + 1e-9 is 1 and the residual would be zero.
  const auto w = at::full({1, 1}, 1 + 1e-9, at::kDouble);
  const auto one = at::ones({1, 1});
  EXPECT_NEAR(error_figures(w, one, one).frobenius, 1e-9, 1e-15);
}

TEST(ErrorFigures, LeavesItsInputsAlone) {
  for (const auto dtype : {at::kFloat, at::kDouble}) {
    const auto w = at::eye(3, dtype);
    error_figures(w, at::ones({3, 1}, dtype), at::ones({1, 3}, dtype));
    EXPECT_TRUE(w.equal(at::eye(3, dtype)));
  }
}

TEST(ErrorFigures, DoesNotOverflowWhereTheSquaresWould) {
  const auto w = at::full({3, 3}, 1e200, at::kDouble);
  const auto figures = error_figures(w, at::zeros({3, 0}), at::zeros({0, 3}));
  EXPECT_NEAR(figures.frobenius / 3e200, 1, 1e-14);
  EXPECT_NEAR(figures.spectral / 3e200, 1, 1e-14);
  EXPECT_NEAR(figures.relative_frobenius, 1, 1e-14);
}

TEST(ErrorFigures, KeepsItsDigitsWhereTheSquaresWouldVanish) {
  for (const double unit : {1.0, 1e-300, std::ldexp(1.0, -1074)}) {
    const auto w = at::tensor({1.0, 0.0, 0.0, 2.0}, at::kDouble).view({2, 2}) * unit;
    const auto b = at::tensor({0.0, 2.0}, at::kDouble).view({2, 1}) * unit;
    const auto a = at::tensor({0.0, 1.0}, at::kDouble).view({1, 2});
    const auto figures = error_figures(w, b, a);  // the residual is (1 0; 0 0) units
    EXPECT_DOUBLE_EQ(figures.frobenius, unit);
    EXPECT_DOUBLE_EQ(figures.spectral, unit);
    EXPECT_DOUBLE_EQ(figures.relative_frobenius, 1 / std::sqrt(5.0));
    EXPECT_NEAR(figures.retained_energy, 0.8, 1e-15);
  }
}

TEST(ErrorFigures, OfALargeMatrixOfTinyNumbers) {
  at::manual_seed(1);
  const auto w = at::randn({600, 600}, at::kDouble);
  const auto b = at::zeros({600, 0}, at::kDouble), a = at::zeros({0, 600}, at::kDouble);
  const double tiny = std::ldexp(1.0, -900);
  EXPECT_EQ(error_figures(w * tiny, b, a).spectral, error_figures(w, b, a).spectral * tiny);
}

TEST(ErrorFigures, OfAZeroMatrixIsInfiniteWhereTheProductIsNot) {
  const auto figures = error_figures(at::zeros({2, 2}), at::ones({2, 1}), at::ones({1, 2}));
  EXPECT_EQ(figures.relative_frobenius, std::numeric_limits<double>::infinity());
  EXPECT_DOUBLE_EQ(figures.frobenius, 2);
}

TEST(ErrorFigures, RefusesWhatDoesNotFit) {
  LOWRANK_EXPECT_ERROR(
      error_figures(at::zeros({2, 3}), at::zeros({2, 1}), at::zeros({2, 3})), TensorError,
      "[error figures] the shapes must be W (m, n), B (m, r) and A (r, n). Got (2, 3), (2, 1) and "
      "(2, 3).");
  const auto nan = at::full({2, 1}, std::numeric_limits<double>::quiet_NaN());
  LOWRANK_EXPECT_ERROR(error_figures(at::zeros({2, 3}), nan, at::zeros({1, 3})), TensorError,
                       "B must hold only finite numbers. Got 2 NaN");
}

double decomposed_norm(const at::Tensor& r) { return at::linalg_svdvals(r)[0].item<double>(); }

TEST(LanczosSpectralNorm, AgreesWithTheDecomposition) {
  at::manual_seed(3);
  for (const auto& shape : {std::vector<int64_t>{300, 300}, {400, 60}, {60, 400}, {1, 9}, {9, 1}}) {
    const auto r = at::randn(shape, at::kDouble);
    EXPECT_NEAR(lanczos_spectral_norm(r) / decomposed_norm(r), 1, 1e-8);
    EXPECT_NEAR(lanczos_spectral_norm(r.t()) / decomposed_norm(r), 1, 1e-8);
  }
}

TEST(LanczosSpectralNorm, TakesFloat32) {
  at::manual_seed(3);
  const auto r = at::randn({700, 600}, at::kDouble);
  EXPECT_NEAR(lanczos_spectral_norm(r.to(at::kFloat)) / lanczos_spectral_norm(r), 1, 3e-6);
  EXPECT_EQ(lanczos_spectral_norm(at::zeros({8, 8})), 0);
}

TEST(LanczosSpectralNorm, EndsWhereTheSpaceIsUsedUp) {
  EXPECT_EQ(lanczos_spectral_norm(at::zeros({8, 8}, at::kDouble)), 0);
  EXPECT_NEAR(lanczos_spectral_norm(at::eye(50, at::kDouble) * 3), 3, 1e-12);
  const auto outer = at::ones({30, 1}, at::kDouble).mm(at::ones({1, 20}, at::kDouble));
  EXPECT_NEAR(lanczos_spectral_norm(outer), std::sqrt(600.0), 1e-10);
}

TEST(LanczosSpectralNorm, DoesNotDrawFromTheCallersGenerator) {
  at::manual_seed(5);
  const auto expected = at::rand({4});
  at::manual_seed(5);
  lanczos_spectral_norm(at::eye(4, at::kDouble));
  EXPECT_TRUE(at::rand({4}).equal(expected));
}

TEST(ErrorFigures, OfALargeMatrixUsesTheIteration) {
  at::manual_seed(1);
  const auto w = at::randn({700, 600}, at::kDouble);
  const auto decomposition = thin_svd(w);
  const auto [b, a] = truncate(decomposition, RankRule::number(100));
  EXPECT_NEAR(error_figures(w, b, a).spectral / decomposition.s[100].item<double>(), 1, 1e-8);
}

}  // namespace
}  // namespace lowrank
