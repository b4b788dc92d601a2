#include "kernels/add_product.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>

#include "kernels/products.h"

namespace lowrank::kernels {
namespace {

/// from + x·y, with contiguous factors.
struct SumProblem {
  at::Tensor from, x, y;

  ThinProduct product() const { return thin_product({.x = x, .w = y}); }
};

double relative(double found, double expected) { return std::abs(found - expected) / expected; }

TEST(AddProduct, AgreesWithTheDefinition) {
  std::mt19937 random(7);
  at::manual_seed(7);
  const auto up_to = [&](int64_t most) { return static_cast<int64_t>(random() % (most + 1)); };
  for (int i = 0; i < 60; ++i) {
    const auto rows = 1 + up_to(60), columns = 1 + (i % 4 == 0 ? 2000 + up_to(3000) : up_to(300));
    const auto rank = 1 + up_to(20);
    const SumProblem problem = {at::randn({rows, columns}), at::randn({rows, rank}) * 0.01,
                                at::randn({rank, columns})};
    const auto added = at::mm(problem.x.to(at::kDouble), problem.y.to(at::kDouble));
    const auto exact = problem.from.to(at::kDouble) + added;
    for (const auto set : supported_instruction_sets()) {
      auto to = at::empty_like(problem.from);
      const auto figures = add_product(to.data_ptr<float>(), problem.from.data_ptr<float>(),
                                       problem.product(), kernel_table(set));
      const auto rounding = (to.to(at::kDouble) - exact).square().sum().item<double>();
      EXPECT_LT((to.to(at::kDouble) - exact).abs().max().item<double>(), 1e-6) << i;
      EXPECT_LT(relative(figures.largest, added.abs().max().item<double>()), 1e-5) << i;
      EXPECT_LT(relative(figures.squares_of_change, added.square().sum().item<double>()), 1e-5)
          << i << " " << name_of(set);
      // squares_of_rounding leaves out the product's rounding, which is far smaller than the sum's.
      EXPECT_LT(relative(figures.squares_of_rounding, rounding), 0.1) << i << " " << name_of(set);
    }
  }
}

TEST(AddProduct, WorksInPlaceAndOnAnyNumberOfThreads) {
  at::manual_seed(8);
  const SumProblem problem = {at::randn({301, 2100}), at::randn({301, 16}), at::randn({16, 2100})};
  auto to = at::empty_like(problem.from);
  const auto threads = at::get_num_threads();
  at::set_num_threads(1);
  const auto one =
      add_product(to.data_ptr<float>(), problem.from.data_ptr<float>(), problem.product());
  at::set_num_threads(2);
  const auto two = add_product(problem.from.data_ptr<float>(), problem.from.data_ptr<float>(),
                               problem.product());
  at::set_num_threads(threads);
  EXPECT_TRUE(at::equal(problem.from, to));
  EXPECT_EQ(one.largest, two.largest);
  EXPECT_EQ(one.squares_of_change, two.squares_of_change);
  EXPECT_EQ(one.squares_of_rounding, two.squares_of_rounding);
}

TEST(LargestMagnitude, IsThatOfAllNumbers) {
  constexpr auto kNan = std::numeric_limits<float>::quiet_NaN();
  constexpr auto kInf = std::numeric_limits<float>::infinity();
  for (const auto set : supported_instruction_sets()) {
    const auto& kernels = kernel_table(set);
    EXPECT_EQ(largest_magnitude(nullptr, 0, kernels), 0);
    for (const int64_t count : {1, 17, 70001, 140000}) {
      auto x = at::rand({count});
      auto* const data = x.data_ptr<float>();
      for (const int64_t at : {int64_t{0}, count / 2, count - 1}) {
        const float before = data[at];
        data[at] = -3;
        EXPECT_EQ(largest_magnitude(data, count, kernels), 3);
        data[at] = -kInf;
        EXPECT_EQ(largest_magnitude(data, count, kernels), kInf);
        data[at] = -kNan;
        EXPECT_TRUE(std::isnan(largest_magnitude(data, count, kernels)));
        data[at] = before;
      }
    }
  }
}

}  // namespace
}  // namespace lowrank::kernels
