#include "adapter/init/orthogonal.h"

#include <ATen/ATen.h>
#include <lowrank/error.h>

#include <cmath>

#include "adapter/init/init_support.h"
#include "support/expect_error.h"
#include "support/tolerances.h"

namespace lowrank::init {
namespace {

TEST(Orthogonal, ProductIsZeroThoughNeitherFactorIs) {
  at::manual_seed(0);
  const auto [a, b] = orthogonal(200, 120, 8);
  ASSERT_EQ(a.sizes(), (std::vector<int64_t>{8, 200}));
  ASSERT_EQ(b.sizes(), (std::vector<int64_t>{120, 8}));
  EXPECT_EQ(a.scalar_type(), at::kFloat);
  // 4 · 200 normal numbers / 10, multiplied by orthonormal rows: ‖A‖² is 8 give or take 0.4.
  EXPECT_NEAR(length(a) * length(a), 8, 5 * 0.01 * std::sqrt(2 * 800));
  EXPECT_NEAR(length(b) * length(b), 4.8, 5 * 0.01 * std::sqrt(2 * 480));
  EXPECT_LE(length(product({a, b})), tolerance(at::kFloat, 8).product * length(a) * length(b));
}

// B·A is zero, so the factors themselves are compared. LAPACK's QR determines all signs.
TEST(Orthogonal, EqualsPefts) {
  const PeftFactors peft;
  peft.seed(4);
  const auto [a, b] = orthogonal(12, 8, 4);
  EXPECT_LE(difference(a, peft.of("orthogonal").a), 1e-5);
  EXPECT_LE(difference(b, peft.of("orthogonal").b), 1e-5);
}

TEST(Orthogonal, RefusesOddRanks) {
  for (const int64_t rank : {0, 3, -2}) {
    LOWRANK_EXPECT_ERROR(
        orthogonal(5, 8, rank), ArgumentError,
        "[orthogonal] the rank must be even and at least 2. Got " + std::to_string(rank));
  }
}

}  // namespace
}  // namespace lowrank::init
