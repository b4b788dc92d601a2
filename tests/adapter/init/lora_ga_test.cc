#include "adapter/init/lora_ga.h"

#include <ATen/ATen.h>
#include <lowrank/error.h>

#include <cmath>
#include <tuple>

#include "adapter/init/init_support.h"
#include "support/expect_error.h"
#include "support/tolerances.h"

namespace lowrank::init {
namespace {

using Direction = LoraGaDirection;
using Scale = LoraGaScale;

constexpr int64_t kRank = 3;
constexpr double kLoraGaScaling = 1.75;

class LoraGa : public testing::Test {
 protected:
  void SetUp() override {
    at::manual_seed(0);
    w_ = at::randn({24, 40}, at::kDouble);
    gradient_ = decaying(24, 40, 0.7);
    std::tie(u_, s_, vt_) = at::linalg_svd(gradient_, /*full_matrices=*/false);
  }

  FactorPair factors(Direction direction, Scale scale = Scale::kUnit) const {
    return lora_ga(w_, gradient_, kRank, kLoraGaScaling, {.direction = direction, .scale = scale});
  }

  at::Tensor w_, gradient_, u_, s_, vt_;
};

// The first step can only change G projected on B's columns, and on A's rows.
TEST_F(LoraGa, CapturesTheEnergyOfTheFirst2rSingularValues) {
  const double best = length(s_.slice(0, 0, 2 * kRank));
  for (const auto direction : {Direction::kArBr, Direction::kA2rBr, Direction::kArB2r}) {
    const auto pair = factors(direction);
    const auto b = basis(pair.b);
    const auto a = basis(pair.a.t());
    const auto captured = b.mm(b.t().mm(gradient_)) + gradient_.mm(a).mm(a.t());
    EXPECT_NEAR(length(captured) / best, 1, 1e-3);
  }
}

TEST_F(LoraGa, DirectionsChooseTheVectors) {
  const auto expect_span = [&](Direction direction, const at::Tensor& rows_a,
                               const at::Tensor& columns_b) {
    const auto pair = factors(direction);
    EXPECT_LT(sine(pair.a.t(), rows_a.t()), 1e-3);
    EXPECT_LT(sine(pair.b, columns_b), 1e-3);
    EXPECT_LE(distance_from_identity(pair.a.mm(pair.a.t())),
              tolerance(at::kDouble, 40).decomposition);
  };
  expect_span(Direction::kArBr, vt_.slice(0, 1, 6, 2), u_.slice(1, 0, 6, 2));
  expect_span(Direction::kA2rBr, vt_.slice(0, 3, 6), u_.slice(1, 0, 3));
  expect_span(Direction::kArB2r, vt_.slice(0, 0, 3), u_.slice(1, 3, 6));
}

// A and B use the same r of the first 2r directions, so that B·A is that part of the gradient.
TEST_F(LoraGa, RandomDirectionsAreSharedByBoth) {
  at::manual_seed(1);
  const auto [a, b] = factors(Direction::kRandom);
  const auto part = b.mm(a);
  EXPECT_LE(difference(b.t().mm(part), b.t().mm(gradient_)), 1e-3);
  const auto first = vt_.slice(0, 0, 6);
  EXPECT_LT(difference(a.mm(first.t()).mm(first), a), 1e-3);
  EXPECT_FALSE(at::allclose(part, product(factors(Direction::kRandom))));
}

TEST_F(LoraGa, ScalesAreAsDefined) {
  const auto unit = factors(Direction::kArB2r);
  EXPECT_LE(difference(at::linalg_svdvals(unit.b), s_.slice(0, 3, 6)), 1e-3);
  const auto expect_scaled = [&](Scale scale, double of_a, double of_b, double allowed) {
    const auto pair = factors(Direction::kArB2r, scale);
    EXPECT_NEAR(length(pair.a) / length(unit.a), of_a, allowed * of_a);
    EXPECT_NEAR(length(pair.b) / length(unit.b), of_b, allowed * of_b);
  };
  expect_scaled(Scale::kStable, 1, std::pow(24, 0.25) / 4, 1e-3);
  expect_scaled(Scale::kGdScale, 1 / kLoraGaScaling, 1 / kLoraGaScaling, 1e-3);
  const auto norm_w = at::linalg_svdvals(w_)[0].item<double>();
  expect_scaled(Scale::kWeightSvd, 1, norm_w / s_[3].item<double>(), 1e-3);
}

TEST_F(LoraGa, AGradientOfZeroStartsAsTheBase) {
  const auto [a, b] =
      lora_ga(w_, at::zeros_like(w_), kRank, kLoraGaScaling, {.scale = Scale::kWeightSvd});
  EXPECT_EQ(length(b), 0);
  EXPECT_TRUE(a.isfinite().all().item<bool>());
}

TEST(LoraGaFactors, EqualPefts) {
  const PeftFactors peft;
  const auto expect_equal = [&](const char* name, int64_t rank, const LoraGaConfig& options) {
    SCOPED_TRACE(name);
    peft.seed(rank);
    const double scaling = 6.0 / static_cast<double>(rank);
    const auto found = lora_ga(peft.weight(), peft.gradient(), rank, scaling, options);
    const auto expected = peft.of(name);
    EXPECT_EQ(found.a.scalar_type(), at::kFloat);
    // A and B hold different singular vectors, whose signs are not determined.
    EXPECT_LE(difference(found.a.abs(), expected.a.abs()), 1e-5);
    EXPECT_LE(difference(found.b.abs(), expected.b.abs()), 1e-5);
  };
  expect_equal("lora_ga", 3, {});
  expect_equal("lora_ga_alternating", 3, {.direction = Direction::kArBr, .scale = Scale::kUnit});
  expect_equal("lora_ga_swapped", 3, {.direction = Direction::kA2rBr, .scale = Scale::kGdScale});
  expect_equal("lora_ga_random", 2, {.direction = Direction::kRandom, .scale = Scale::kUnit});
}

TEST_F(LoraGa, RefusesWhatCannotBe) {
  LOWRANK_EXPECT_ERROR(lora_ga(w_, gradient_, 13, 1), ArgumentError,
                       "[lora_ga] the rank must be at least 1 and at most half of the smaller of "
                       "out and in, 12. Got 13.");
  LOWRANK_EXPECT_ERROR(lora_ga(w_, gradient_, 2, -1), ArgumentError,
                       "[lora_ga] the scaling must be finite and above 0. Got -1.");
  LOWRANK_EXPECT_ERROR(lora_ga(w_, gradient_, 2, 1, {.stable_gamma = 0}), ArgumentError,
                       "[lora_ga] stable_gamma must be finite and above 0. Got 0.");
  LOWRANK_EXPECT_ERROR(lora_ga(w_, gradient_.t(), 2, 1), TensorError,
                       "[lora_ga] the gradient must have the shape of W, (24, 40). Got (40, 24).");
  LOWRANK_EXPECT_ERROR(lora_ga(w_, gradient_ / 0, 2, 1), TensorError,
                       "[lora_ga] the gradient must hold only finite numbers.");
}

}  // namespace
}  // namespace lowrank::init
