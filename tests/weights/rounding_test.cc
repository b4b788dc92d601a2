#include "weights/rounding.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <limits>

namespace lowrank {
namespace {

TEST(RoundInto, RoundsAndCountsAsTensorsDo) {
  at::manual_seed(0);
  const int threads = at::get_num_threads();
  const auto before = at::randn({40'000}, at::kDouble);
  auto exact = before + 1e-3 * at::randn({40'000}, at::kDouble);
  exact.narrow(0, 100, 5000).copy_(before.narrow(0, 100, 5000));
  for (const auto dtype : {at::kDouble, at::kFloat, at::kHalf, at::kBFloat16}) {
    SCOPED_TRACE(c10::toString(dtype));
    const auto own = before.to(dtype);
    const auto wide = own.to(at::kDouble);
    const auto to = at::empty_like(own);
    at::set_num_threads(1);
    const auto figures = round_into(to, exact, wide, own);
    const auto rounded = exact.to(dtype);
    EXPECT_TRUE(at::equal(to, rounded));
    const auto squares = [](const at::Tensor& x) { return x.dot(x).item<double>(); };
    EXPECT_NEAR(figures.update, squares(exact - wide), 1e-9 * squares(exact - wide));
    const double rounding = squares(rounded.to(at::kDouble) - exact);
    EXPECT_NEAR(figures.rounding, rounding, 1e-9 * rounding);
    EXPECT_EQ(figures.unchanged, rounded.eq(own).sum().item<int64_t>());
    EXPECT_TRUE(figures.is_finite);
    at::set_num_threads(3);
    EXPECT_EQ(round_into(to, exact, wide, own).update, figures.update) << "for any threads";
    at::set_num_threads(threads);
  }
}

TEST(RoundInto, TellsOfNumbersThatStopBeingFinite) {
  const auto before = at::tensor({1.0, 2.0}, at::kDouble);
  const auto own = before.to(at::kHalf), to = at::empty_like(own);
  EXPECT_FALSE(round_into(to, at::tensor({1.0, 1e6}, at::kDouble), before, own).is_finite);
  const auto infinite = at::full({2}, std::numeric_limits<double>::infinity(), at::kDouble);
  EXPECT_TRUE(round_into(to, infinite, infinite, infinite.to(at::kHalf)).is_finite)
      << "it was not finite before";
}

}  // namespace
}  // namespace lowrank
