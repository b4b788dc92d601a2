#include "kernels/lora_rows.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

namespace lowrank::kernels {
namespace {

/// Returns y + s·(x·Aᵀ)·Bᵀ in these rows, in float64.
at::Tensor reference(const at::Tensor& y, const at::Tensor& x, const std::vector<int64_t>& rows,
                     const at::Tensor& a, const at::Tensor& b, double scaling) {
  auto sum = y.to(at::kDouble).clone();
  for (const auto row : rows) {
    const auto down = at::mv(a.to(at::kDouble), x[row].to(at::kDouble));
    sum[row] += scaling * at::mv(b.to(at::kDouble), down);
  }
  return sum;
}

TEST(LoraRows, EqualTheDefinitionInFloat64) {
  at::manual_seed(0);
  for (const int64_t rank : {1, 3, 4, 7, 8, 16, 33}) {
    for (const auto& [in, out] :
         std::vector<std::pair<int64_t, int64_t>>{{1, 1}, {5, 3}, {64, 17}, {784, 1000}}) {
      const auto x = at::randn({4, in}), a = at::randn({rank, in}), b = at::randn({out, rank});
      const auto y = at::randn({4, out});
      const std::vector<int64_t> rows = {2, 0};
      const auto expected = reference(y, x, rows, a, b, -0.75);
      auto sum = y.clone();
      add_lora_rows(sum.data_ptr<float>(), x.data_ptr<float>(), rows,
                    {.a = a.data_ptr<float>(),
                     .b = b.data_ptr<float>(),
                     .in = in,
                     .out = out,
                     .rank = rank,
                     .scaling = -0.75});
      const auto error = (sum.to(at::kDouble) - expected).norm() / expected.norm();
      EXPECT_LE(error.item<double>(), 1e-6) << in << " x " << out << ", rank " << rank;
      for (const int64_t other : {1, 3}) EXPECT_TRUE(at::equal(sum[other], y[other]));
    }
  }
}

TEST(LoraRows, NoRowsChangeNothing) {
  const auto x = at::randn({2, 3}), a = at::randn({1, 3}), b = at::randn({2, 1});
  const auto y = at::randn({2, 2});
  auto sum = y.clone();
  add_lora_rows(sum.data_ptr<float>(), x.data_ptr<float>(), {},
                {a.data_ptr<float>(), b.data_ptr<float>(), 3, 2, 1, 1});
  EXPECT_TRUE(at::equal(sum, y));
}

}  // namespace
}  // namespace lowrank::kernels
