#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <lowrank/error.h>
#include <lowrank/linalg/error_figures.h>
#include <lowrank/linalg/factorize.h>
#include <lowrank/linalg/numerical_rank.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <tuple>

#include "support/expect_error.h"
#include "support/orthonormal.h"
#include "support/tolerances.h"

namespace lowrank {
namespace {

using Case = std::tuple<int64_t, int64_t, at::ScalarType>;  // rows, columns, dtype

/// Decompositions are tested by their properties, because signs and order are not determined.
class AnyShape : public testing::TestWithParam<Case> {
 protected:
  int64_t rows() const { return std::get<0>(GetParam()); }
  int64_t columns() const { return std::get<1>(GetParam()); }
  at::ScalarType dtype() const { return std::get<2>(GetParam()); }
  int64_t smaller() const { return std::min(rows(), columns()); }
  Tolerance allowed() const { return tolerance(dtype(), std::max(rows(), columns())); }

  at::Tensor matrix() const {
    at::manual_seed(7);
    return at::randn({rows(), columns()}).to(dtype());
  }
};

TEST_P(AnyShape, DecompositionIsThinOrthogonalAndExact) {
  const auto w = matrix();
  const auto [u, s, v] = thin_svd(w);
  ASSERT_EQ(u.sizes(), (std::vector<int64_t>{rows(), smaller()}));
  ASSERT_EQ(s.sizes(), (std::vector<int64_t>{smaller()}));
  ASSERT_EQ(v.sizes(), (std::vector<int64_t>{columns(), smaller()}));
  const auto wide = u.to(at::kDouble);
  const auto product = (wide * s.to(at::kDouble)).mm(v.to(at::kDouble).t());
  EXPECT_LE(norm_of(product - w.to(at::kDouble)), allowed().decomposition * norm_of(w));
  EXPECT_LE(distance_from_orthonormal(u), allowed().decomposition * 10);
  EXPECT_LE(distance_from_orthonormal(v), allowed().decomposition * 10);
  EXPECT_NEAR(norm_of(s), norm_of(w), allowed().decomposition * norm_of(w));
  if (smaller() > 1) {
    EXPECT_TRUE((s.slice(0, 1) <= s.slice(0, 0, -1)).all().item<bool>());
  }
}

TEST_P(AnyShape, SingularValuesAloneAreTheSame) {
  const auto w = matrix();
  const auto s = thin_svd(w).s;
  const auto alone = singular_values(w);
  EXPECT_EQ(alone.scalar_type(), s.scalar_type());
  EXPECT_LE(norm_of(alone - s), allowed().decomposition * norm_of(s));
}

TEST_P(AnyShape, TruncationReachesTheEckartYoungBound) {
  const auto w = matrix();
  const auto decomposition = thin_svd(w);
  for (int64_t rank = 1; rank <= smaller(); rank += std::max<int64_t>(1, smaller() / 3)) {
    const auto [b, a] = truncate(decomposition, RankRule::number(rank));
    ASSERT_EQ(b.sizes(), (std::vector<int64_t>{rows(), rank}));
    ASSERT_EQ(a.sizes(), (std::vector<int64_t>{rank, columns()}));
    EXPECT_TRUE(b.is_contiguous() && a.is_contiguous());
    const auto figures = error_figures(w, b, a);
    const auto left_out = decomposition.s.slice(0, rank);
    const double slack = allowed().decomposition * norm_of(w);
    EXPECT_NEAR(figures.frobenius, norm_of(left_out), slack);
    EXPECT_NEAR(figures.spectral,
                left_out.numel() == 0 ? 0 : left_out[0].to(at::kDouble).item<double>(), slack);
    EXPECT_NEAR(figures.relative_frobenius, norm_of(left_out) / norm_of(w),
                allowed().decomposition);
    EXPECT_NEAR(figures.retained_energy,
                std::pow(norm_of(decomposition.s.slice(0, 0, rank)) / norm_of(decomposition.s), 2),
                3 * allowed().decomposition);
  }
}

TEST_P(AnyShape, BalancedFactorsHaveTheSameProductAndEqualNorms) {
  const auto w = matrix();
  const auto plain = factorize(w, RankRule::numerical());
  const auto balanced = factorize(w, RankRule::numerical(), {.balanced = true});
  EXPECT_EQ(plain.rank(), balanced.rank());
  const double slack = allowed().product * norm_of(w) + std::numeric_limits<double>::min();
  EXPECT_LE(norm_of(plain.b.mm(plain.a) - balanced.b.mm(balanced.a)), slack);
  EXPECT_NEAR(norm_of(balanced.b), norm_of(balanced.a), slack);
}

TEST_P(AnyShape, DoesNotDependOnStrides) {
  const auto w = matrix();
  const auto strided = w.t().contiguous().t();
  const auto s = singular_values(strided);
  EXPECT_LE(norm_of(s - singular_values(w)), allowed().decomposition * norm_of(s));
  EXPECT_EQ(factorize(strided, RankRule::numerical()).rank(), numerical_rank(w));
}

TEST_P(AnyShape, ZeroMatrixHasRankZero) {
  const auto zero = at::zeros({rows(), columns()}, dtype());
  for (const auto& rule : {RankRule::numerical(), RankRule::energy(0.99), RankRule::tolerance(0)}) {
    const auto [b, a] = factorize(zero, rule);
    EXPECT_EQ(b.sizes(), (std::vector<int64_t>{rows(), 0}));
    EXPECT_EQ(a.sizes(), (std::vector<int64_t>{0, columns()}));
    const auto figures = error_figures(zero, b, a);
    EXPECT_EQ(figures.frobenius, 0);
    EXPECT_EQ(figures.relative_frobenius, 0);
    EXPECT_EQ(figures.spectral, 0);
    EXPECT_EQ(figures.retained_energy, 1);
    EXPECT_EQ(figures.largest_entry, 0);
  }
}

INSTANTIATE_TEST_SUITE_P(Linalg, AnyShape,
                         testing::Combine(testing::Values(1, 7, 40), testing::Values(1, 7, 90),
                                          testing::Values(at::kFloat, at::kDouble, at::kHalf,
                                                          at::kBFloat16)),
                         [](const auto& one) {
                           return std::to_string(std::get<0>(one.param)) + "x" +
                                  std::to_string(std::get<1>(one.param)) +
                                  c10::toString(std::get<2>(one.param));
                         });

TEST(Factorize, EmptyMatricesHaveRankZero) {
  for (const auto& shape : {std::vector<int64_t>{0, 5}, {5, 0}, {0, 0}}) {
    const auto w = at::zeros(shape);
    EXPECT_EQ(numerical_rank(w), 0);
    const auto [b, a] = factorize(w, RankRule::energy(1));
    EXPECT_EQ(b.sizes(), (std::vector<int64_t>{shape[0], 0}));
    EXPECT_EQ(a.sizes(), (std::vector<int64_t>{0, shape[1]}));
    EXPECT_EQ(error_figures(w, b, a).retained_energy, 1);
  }
}

TEST(Factorize, FindsTheRankOfAProduct) {
  at::manual_seed(0);
  for (const auto dtype : {at::kFloat, at::kDouble}) {
    const auto w = at::randn({60, 3}, dtype).mm(at::randn({3, 40}, dtype));
    const auto factors = factorize(w, RankRule::numerical());
    EXPECT_EQ(factors.rank(), 3);
    EXPECT_EQ(factors.b.scalar_type(), dtype);
    EXPECT_LE(error_figures(w, factors.b, factors.a).relative_frobenius,
              tolerance(dtype, 60).decomposition);
  }
}

TEST(Factorize, ComputesHalfTypesInFloat32AndIntegersInFloat64) {
  EXPECT_EQ(thin_svd(at::ones({2, 3}, at::kHalf)).s.scalar_type(), at::kFloat);
  EXPECT_EQ(thin_svd(at::ones({2, 3}, at::kBFloat16)).s.scalar_type(), at::kFloat);
  EXPECT_EQ(thin_svd(at::ones({2, 3}, at::kLong)).s.scalar_type(), at::kDouble);
  EXPECT_EQ(numerical_rank(at::eye(3, at::kBool)), 3);
}

TEST(Factorize, LeavesGradientsAlone) {
  const auto w = at::eye(3).requires_grad_();
  const auto [b, a] = factorize(w, RankRule::number(2));
  EXPECT_FALSE(b.requires_grad() || a.requires_grad());
}

TEST(Factorize, RefusesWhatIsNoFiniteMatrix) {
  auto w = at::ones({3, 4});
  w[1][2] = std::numeric_limits<float>::quiet_NaN();
  w[2][0] = std::numeric_limits<float>::infinity();
  LOWRANK_EXPECT_ERROR(thin_svd(w, "head.weight"), TensorError,
                       "[svd] head.weight must hold only finite numbers. Got 1 NaN and 1 Inf, the "
                       "first in row 1, column 2 (counted from 0).");
  LOWRANK_EXPECT_ERROR(thin_svd(w.to(at::kHalf).t()), TensorError, "the first in row 0, column 2");
  LOWRANK_EXPECT_ERROR(thin_svd(at::ones({2, 2, 2})), TensorError,
                       "[svd] W must be a matrix of 2 dimensions. Got 3 dimensions, (2, 2, 2).");
  LOWRANK_EXPECT_ERROR(thin_svd(at::ones({2, 2}, at::kComplexFloat)), TensorError,
                       "must hold real numbers. Got ComplexFloat.");
  LOWRANK_EXPECT_ERROR(thin_svd(at::ones({2, 2}).to_sparse()), TensorError,
                       "must be a dense tensor");
  LOWRANK_EXPECT_ERROR(thin_svd(at::Tensor()), TensorError, "Got an undefined tensor.");
  LOWRANK_EXPECT_ERROR(thin_svd(at::full({2, 2}, 3e38)), TensorError,
                       "the singular values of W must fit into Float");
}

TEST(Factorize, RefusesARankThatCannotBeBeforeItDecomposes) {
  auto w = at::ones({3, 4});
  w[0][0] = std::numeric_limits<float>::quiet_NaN();  // which the decomposition would refuse
  LOWRANK_EXPECT_ERROR(factorize(w, RankRule::number(4)), ArgumentError,
                       "[rank] the rank of a 3 x 4 matrix must be at most 3. Got 4.");
}

}  // namespace
}  // namespace lowrank
