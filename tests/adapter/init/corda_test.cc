#include "adapter/init/corda.h"

#include <ATen/ATen.h>
#include <lowrank/error.h>

#include "adapter/init/init_support.h"
#include "support/expect_error.h"
#include "support/tolerances.h"

namespace lowrank::init {
namespace {

constexpr double kCordaScaling = 1.75;

/// A weight (20, 30), and the covariance of inputs that vary more in some directions than in
/// others.
class Corda : public testing::Test {
 protected:
  void SetUp() override {
    at::manual_seed(0);
    w_ = at::randn({20, 30}, at::kDouble);
    const auto x = decaying(200, 30, 0.85);
    covariance_ = x.t().mm(x);
    damped_ =
        covariance_ + 0.01 * covariance_.diagonal().mean() * at::eye(30, covariance_.options());
    std::tie(u_, s_, vt_) = at::linalg_svd(w_.mm(damped_), /*full_matrices=*/false);
  }

  FactorPair factors(CordaMethod method, int64_t rank) const {
    return corda(w_, covariance_, rank, kCordaScaling, method);
  }

  at::Tensor w_, covariance_, damped_, u_, s_, vt_;
};

TEST_F(Corda, SplitsTheWeightByTheInputsDirections) {
  const auto ipm = factors(CordaMethod::kIpm, 6);
  EXPECT_LE(difference(kCordaScaling * product(ipm).mm(damped_),
                       (u_ * s_).slice(1, 0, 6).mm(vt_.slice(0, 0, 6))),
            1e-10);
  // The largest 6 and the smallest 14 of the 20 singular triplets make up all of W.
  const auto kpm = factors(CordaMethod::kKpm, 14);
  EXPECT_LE(difference(kCordaScaling * (product(ipm) + product(kpm)), w_), 1e-10);
}

TEST_F(Corda, OfFullRankIsTheWeight) {
  for (const auto method : {CordaMethod::kIpm, CordaMethod::kKpm}) {
    EXPECT_LE(difference(kCordaScaling * product(factors(method, 20)), w_), 1e-10);
  }
}

TEST_F(Corda, SpansTheDefinedSubspacesInFloat32) {
  const auto pair =
      corda(w_.to(at::kFloat), covariance_.to(at::kFloat), 6, kCordaScaling, CordaMethod::kIpm);
  EXPECT_EQ(pair.a.scalar_type(), at::kFloat);
  EXPECT_LT(sine(pair.b, u_.slice(1, 0, 6)), 1e-3);
  EXPECT_LT(sine(pair.a.t(), at::linalg_solve(damped_, vt_.slice(0, 0, 6).t())), 1e-3);
}

TEST(CordaFactors, EqualPefts) {
  const PeftFactors peft;
  const auto product_of = [&](CordaMethod method) {
    return product(corda(peft.weight(), peft.covariance(), 3, 2, method));
  };
  EXPECT_LE(difference(product_of(CordaMethod::kIpm), product(peft.of("corda_ipm"))), 1e-5);
  EXPECT_LE(difference(product_of(CordaMethod::kKpm), product(peft.of("corda_kpm"))), 1e-5);
}

TEST(CordaCovariance, IsTheMeanOfTheScaledBatches) {
  at::manual_seed(1);
  const auto first = at::randn({2, 5, 4});
  const auto second = 100 * at::randn({7, 4});
  CordaCovariance covariance;
  covariance.add(first);
  covariance.add(second);
  const auto gram = [](const at::Tensor& x) {
    const auto rows = x.to(at::kDouble).reshape({-1, 4}) / x.abs().max().item<double>();
    return rows.t().mm(rows);
  };
  EXPECT_LE(difference(covariance.mean(), (gram(first) + gram(second)) / 2),
            tolerance(at::kDouble, 10).product);
}

TEST(CordaCovariance, RefusesWhatSaysNothing) {
  CordaCovariance covariance;
  LOWRANK_EXPECT_ERROR(covariance.mean(), TensorError,
                       "[corda] inputs must be added before their mean. Got none.");
  LOWRANK_EXPECT_ERROR(covariance.add(at::zeros({3, 4})), TensorError,
                       "[corda] a batch of inputs must have an entry that is not 0. Got none.");
  covariance.add(at::ones({3, 4}));
  LOWRANK_EXPECT_ERROR(covariance.add(at::ones({3, 5})), TensorError,
                       "[corda] every batch must have 4 inputs a row. Got 5.");
}

TEST_F(Corda, RefusesWhatCannotBe) {
  const auto refused = [&](const at::Tensor& covariance, int64_t rank, double scaling) {
    return corda(w_, covariance, rank, scaling, CordaMethod::kIpm);
  };
  LOWRANK_EXPECT_ERROR(refused(covariance_, 21, 1), ArgumentError,
                       "[corda] the rank must be at least 1 and at most the smaller of out and in, "
                       "20. Got 21.");
  LOWRANK_EXPECT_ERROR(refused(covariance_, 2, 0), ArgumentError,
                       "[corda] the scaling must be finite and above 0. Got 0.");
  LOWRANK_EXPECT_ERROR(refused(at::ones({20, 20}), 2, 1), TensorError,
                       "[corda] the covariance must be (30, 30). Got (20, 20).");
  LOWRANK_EXPECT_ERROR(refused(at::zeros({30, 30}), 2, 1), TensorError,
                       "[corda] the covariance must be positive semidefinite and not zero. Got a "
                       "diagonal that is not positive. It is the mean of XᵀX over inputs X of the "
                       "layer.");
  LOWRANK_EXPECT_ERROR(refused(at::diag(at::linspace(2, -1, 30)), 2, 1), TensorError,
                       "Got a negative eigenvalue.");
}

}  // namespace
}  // namespace lowrank::init
