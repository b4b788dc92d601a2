#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <lowrank/error.h>
#include <lowrank/linalg/numerical_rank.h>
#include <lowrank/linalg/spectrum.h>
#include <lowrank/linalg/thin_svd.h>

#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

#include "support/expect_error.h"

namespace lowrank {
namespace {

at::Tensor diagonal(const std::vector<double>& values, int64_t rows, int64_t columns) {
  auto w = at::zeros({rows, columns}, at::kDouble);
  for (size_t i = 0; i < values.size(); ++i) {
    w[static_cast<int64_t>(i)][static_cast<int64_t>(i)] = values[i];
  }
  return w;
}

TEST(Spectrum, IsThatOfTheDefinitions) {
  // Σσ² = 64 + 16 + 16 + 4 = 100; the shares of the energy are 0.64, 0.80, 0.96 and 1.
  const auto w = diagonal({4, 8, 2, 4}, 4, 6);
  for (const auto dtype : {at::kDouble, at::kFloat}) {
    const auto found = spectrum(w.to(dtype));
    EXPECT_NEAR(found.largest, 8, 1e-12);
    EXPECT_NEAR(found.norm, 10, 1e-12);
    EXPECT_EQ(found.numerical_rank, 4);
    EXPECT_NEAR(found.stable_rank, 100.0 / 64, 1e-12);
    const double entropy = -(8.0 / 18 * std::log(8.0 / 18) + 2 * 4.0 / 18 * std::log(4.0 / 18) +
                             2.0 / 18 * std::log(2.0 / 18));
    EXPECT_NEAR(found.effective_rank, std::exp(entropy), 1e-12);
    EXPECT_EQ(found.rank_90, 3);
    EXPECT_EQ(found.rank_95, 3);
    EXPECT_EQ(found.rank_99, 4);
    EXPECT_EQ(to_json(found).at("rank_99"), 4);
  }
}

/// The Gram matrix squares the singular values, which must not show in the figures of any dtype.
TEST(Spectrum, AgreesWithLapackOnSingularValues) {
  at::manual_seed(0);
  for (const auto& [rows, columns, rank] : {std::tuple<int64_t, int64_t, int64_t>(60, 90, 60),
                                            {90, 60, 7},
                                            {300, 20, 20},
                                            {5, 5000, 5}}) {
    auto w = at::randn({rows, rank}, at::kDouble).mm(at::randn({rank, columns}, at::kDouble));
    for (const auto dtype : {at::kFloat, at::kBFloat16}) {
      const auto stored = w.to(dtype);
      const auto s = singular_values(stored.to(at::kDouble));
      const auto found = spectrum(stored);
      const double largest = s[0].item<double>();
      EXPECT_NEAR(found.largest, largest, 1e-12 * largest);
      EXPECT_NEAR(found.norm, s.norm().item<double>(), 1e-12 * largest * std::sqrt(s.numel()));
      EXPECT_EQ(found.numerical_rank, numerical_rank(stored)) << rows << " x " << columns;
      const auto of_all = spectrum_of(s, rows, columns, std::numeric_limits<float>::epsilon());
      EXPECT_NEAR(found.stable_rank, of_all.stable_rank, 1e-9);
      EXPECT_NEAR(found.effective_rank, of_all.effective_rank, 1e-4);
      EXPECT_EQ(found.rank_95, of_all.rank_95);
    }
  }
}

TEST(Spectrum, HoldsTheEndsOfTheRange) {
  const auto tiny = spectrum(at::full({3, 4}, 1e-30F));
  EXPECT_NEAR(tiny.largest / 1e-30, std::sqrt(12), 1e-5);
  EXPECT_EQ(tiny.numerical_rank, 1);
  const auto large = spectrum(at::full({3, 4}, 1e300, at::kDouble));
  EXPECT_NEAR(large.norm / 1e300, std::sqrt(12), 1e-9);
  for (const auto& w : {at::zeros({3, 4}), at::zeros({0, 4}), at::zeros({3, 0}, at::kDouble)}) {
    const auto none = spectrum(w);
    EXPECT_EQ(none.largest, 0);
    EXPECT_EQ(none.numerical_rank, 0);
    EXPECT_EQ(none.effective_rank, 0);
    EXPECT_EQ(none.rank_99, 0);
  }
  auto broken = at::ones({3, 4});
  broken[1][2] = std::numeric_limits<float>::quiet_NaN();
  LOWRANK_EXPECT_ERROR(spectrum(broken, "w"), TensorError,
                       "[spectrum] w must hold only finite numbers. Got 1 NaN, the first in row 1, "
                       "column 2");
}

}  // namespace
}  // namespace lowrank
