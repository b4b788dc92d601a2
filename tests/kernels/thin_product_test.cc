#include "kernels/thin_product.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <random>

#include "kernels/input_gradient.h"
#include "kernels/products.h"

namespace lowrank::kernels {
namespace {

constexpr double kUnit = 0x1p-24;  // unit roundoff of float32

/// A product of random sizes and strides. The memory around its matrices is filled with NaN.
struct ProductProblem {
  int64_t rows, columns, depth, second_depth;
  at::Tensor x, w, x2, w2, bias, y;
  bool accumulate, rectify;

  /// Returns a (rows, columns) view with gaps between its rows, at an odd address.
  static at::Tensor with_gaps(int64_t rows, int64_t columns, int64_t gap) {
    auto memory = at::full({(rows + 1) * (columns + gap) + 1},
                           std::numeric_limits<float>::quiet_NaN(), at::kFloat);
    auto view = memory.as_strided({rows, columns}, {columns + gap, 1}, 1);
    return view.copy_(at::randn({rows, columns}));
  }

  ProductProblem(std::mt19937& random, bool transposed) {
    const auto up_to = [&](int64_t most) {
      return static_cast<int64_t>(random() % static_cast<uint64_t>(most + 1));
    };
    rows = up_to(1) == 0 ? up_to(12) : up_to(40);
    if (up_to(7) == 0) rows += 100;  // the tiles are in another order there
    columns = up_to(1) == 0 ? up_to(20) : up_to(200);
    depth = up_to(1) == 0 ? up_to(20) : up_to(300);
    second_depth = up_to(2) * up_to(9);
    accumulate = up_to(1) == 1;
    const auto gap = up_to(3);
    x = with_gaps(rows, depth, gap);
    x2 = with_gaps(rows, second_depth, gap);
    if (!transposed && up_to(1) == 1) {  // strided along the depth as well
      x = with_gaps(depth, rows, gap).t();
      x2 = with_gaps(second_depth, rows, gap).t();
    }
    w = transposed ? with_gaps(columns, depth, gap).t() : with_gaps(depth, columns, gap);
    w2 = transposed ? with_gaps(columns, second_depth, gap).t()
                    : with_gaps(second_depth, columns, gap);
    if (up_to(1) == 1) bias = at::randn({columns});
    y = with_gaps(rows, columns, gap);
    rectify = up_to(2) == 0;
  }

  ThinProduct product(bool transposed) const {
    const auto term = [&](const at::Tensor& of_x, const at::Tensor& of_w) {
      return ThinTerm{.x = of_x.data_ptr<float>(),
                      .x_row = of_x.stride(0),
                      .x_column = of_x.stride(1),
                      .w = of_w.data_ptr<float>(),
                      .w_row = transposed ? of_w.stride(1) : of_w.stride(0),
                      .depth = of_x.size(1)};
    };
    return {.first = term(x, w),
            .second = term(x2, w2),
            .rows = rows,
            .columns = columns,
            .bias = bias.defined() ? bias.data_ptr<float>() : nullptr,
            .accumulate = accumulate,
            .rectify = rectify,
            .y = y.data_ptr<float>(),
            .y_row = y.stride(0)};
  }

  /// Returns the product in float64; with `absolute`, that of the absolute values, for the bound.
  at::Tensor reference(bool absolute) const {
    const auto of = [&](const at::Tensor& tensor) {
      const auto wide = tensor.to(at::kDouble);
      return absolute ? wide.abs() : wide;
    };
    auto sum = at::mm(of(x), of(w)) + at::mm(of(x2), of(w2));
    if (bias.defined()) sum = sum + of(bias);
    if (accumulate) sum = sum + of(y);
    return rectify && !absolute ? at::relu(sum) : sum;
  }
};

/// Checks random shapes, strides and second terms in every instruction set of this machine: results
/// are within the bound that the header states, and nothing but the result is written.
void check_random_products(bool transposed) {
  std::mt19937 random(7);
  for (int i = 0; i < 400; ++i) {
    at::manual_seed(static_cast<uint64_t>(i));
    const ProductProblem problem(random, transposed);
    const auto expected = problem.reference(/*absolute=*/false);
    const auto absolute = problem.reference(/*absolute=*/true);
    const auto start = problem.y.clone();
    const auto memory =
        at::Tensor(problem.y).as_strided({(problem.y.stride(0)) * (problem.rows + 1) + 1}, {1}, 0);
    for (const auto set : supported_instruction_sets()) {
      const auto lanes = set == InstructionSet::kAvx512 ? 16 : set == InstructionSet::kAvx2 ? 8 : 4;
      const auto depth = static_cast<double>(problem.depth + problem.second_depth);
      const double steps = transposed ? depth / lanes + 10 : depth + 4;
      problem.y.copy_(start);
      const auto nans = at::isnan(memory).sum().item<int64_t>();
      (transposed ? multiply_transposed : multiply)(problem.product(transposed), kernel_table(set));
      const auto excess = (problem.y.to(at::kDouble) - expected).abs() - steps * kUnit * absolute;
      EXPECT_TRUE((excess <= 0).all().item<bool>())
          << name_of(set) << ", " << problem.rows << " x " << problem.depth << " + "
          << problem.second_depth << " x " << problem.columns << ", case " << i;
      EXPECT_EQ(at::isnan(memory).sum().item<int64_t>(), nans) << name_of(set) << ", case " << i;
    }
  }
}

TEST(ThinProduct, StaysWithinItsBoundOfTheProductInFloat64) { check_random_products(false); }

TEST(ThinProduct, StaysWithinItsBoundOfTheTransposedProductInFloat64) {
  check_random_products(true);
}

TEST(ThinProduct, OfHalvesStaysWithinTheBoundForAnyNumberOfThreads) {
  const int threads = at::get_num_threads();
  std::mt19937 random(5);
  for (int i = 0; i < 24; ++i) {
    at::manual_seed(static_cast<uint64_t>(i));
    ProductProblem problem(random, /*transposed=*/false);
    problem.columns = i % 4 == 0 ? 60 : 300 + 100 * (i % 5);
    problem.depth = (1 << 18) / problem.columns + 1 + i % 3;
    problem.x = ProductProblem::with_gaps(problem.rows, problem.depth, 1);
    problem.w = ProductProblem::with_gaps(problem.depth, problem.columns, 2);
    problem.w2 = ProductProblem::with_gaps(problem.second_depth, problem.columns, 2);
    problem.y = ProductProblem::with_gaps(problem.rows, problem.columns, 3);
    problem.rectify = false;
    if (problem.bias.defined()) problem.bias = at::randn({problem.columns});
    const auto expected = problem.reference(/*absolute=*/false);
    const auto bound = static_cast<double>(problem.depth + problem.second_depth + 4) * kUnit *
                       problem.reference(/*absolute=*/true);
    const auto start = problem.y.clone();
    for (const auto set : supported_instruction_sets()) {
      at::Tensor of_one_thread;
      for (const int count : {1, 2, 3, 4}) {
        at::set_num_threads(count);
        problem.y.copy_(start);
        multiply_halves(problem.product(/*transposed=*/false), kernel_table(set));
        if (count == 1) of_one_thread = problem.y.clone();
        EXPECT_TRUE(at::equal(problem.y, of_one_thread)) << count << " threads, case " << i;
      }
      EXPECT_TRUE(((of_one_thread.to(at::kDouble) - expected).abs() <= bound).all().item<bool>())
          << name_of(set) << ", case " << i;
    }
  }
  at::set_num_threads(threads);
}

TEST(ThinProduct, ReadsNothingBeyondTheRowsOfItsOperands) {
  // The gaps hold NaN, which would show in every sum that reads them. (The cases above have gaps
  // as well; here every length of a vector's tail is tried.)
  for (int64_t depth = 1; depth <= 40; ++depth) {
    const auto x = ProductProblem::with_gaps(3, depth, 1),
               w = ProductProblem::with_gaps(5, depth, 1);
    for (const auto set : supported_instruction_sets()) {
      auto y = at::empty({3, 5});
      multiply_transposed({.first = {.x = x.data_ptr<float>(),
                                     .x_row = x.stride(0),
                                     .w = w.data_ptr<float>(),
                                     .w_row = w.stride(0),
                                     .depth = depth},
                           .rows = 3,
                           .columns = 5,
                           .y = y.data_ptr<float>(),
                           .y_row = 5},
                          kernel_table(set));
      EXPECT_TRUE(at::allclose(y, at::mm(x, w.t()), 1e-4, 1e-5)) << name_of(set) << ' ' << depth;
    }
  }
}

TEST(ThinProduct, RectifiesNumbersAndNoNaN) {
  const auto x = at::tensor({-2.0F, 3.0F, std::numeric_limits<float>::quiet_NaN()}).view({3, 1});
  const auto expected = at::relu(x).expand({3, 70});
  for (const auto& w : {at::ones({1, 70}), at::ones({70, 1}).t()}) {
    const auto y = product({x, w}, {}, {}, Activation::kRelu);
    EXPECT_TRUE(at::allclose(y, expected, 0, 0, /*equal_nan=*/true)) << y;
  }
}

TEST(ThinProduct, IsTheSameForAnyNumberOfThreadsAndRows) {
  at::manual_seed(0);
  const int threads = at::get_num_threads();
  const auto x = at::randn({37, 500}), w = at::randn({300, 500}), v = at::randn({500, 300});
  const auto u = at::randn({500, 700});
  const auto both = [&](const at::Tensor& rows) {
    return at::cat({product({rows, w.t()}), product({rows, v}), input_gradient({rows, u})}, 1);
  };
  at::set_num_threads(1);
  const auto one = both(x);
  at::set_num_threads(4);
  const auto four = both(x);
  at::set_num_threads(threads);
  EXPECT_TRUE(at::equal(one, four));
  for (const int64_t row : {0, 5, 36}) {
    EXPECT_TRUE(at::equal(both(x.narrow(0, row, 1)), one.narrow(0, row, 1)));
  }
}

/// With AVX2 many rows take w in panels, and few rows take it where it lies: the bits are the same.
void check_rows_alone(bool transposed) {
  std::mt19937 random(3);
  for (int i = 0; i < 200; ++i) {
    at::manual_seed(static_cast<uint64_t>(i));
    ProductProblem problem(random, transposed);
    problem.rows = 14 + i % 20;
    if (!transposed) {
      problem.columns = 120 + i;
      problem.depth = 120 + 3 * i;
      problem.w = ProductProblem::with_gaps(problem.depth, problem.columns, i % 5);
      problem.w2 = ProductProblem::with_gaps(problem.second_depth, problem.columns, i % 5);
      if (problem.bias.defined()) problem.bias = at::randn({problem.columns});
    }
    problem.x = ProductProblem::with_gaps(problem.rows, problem.depth, i % 3);
    problem.x2 = ProductProblem::with_gaps(problem.rows, problem.second_depth, i % 2);
    problem.y = ProductProblem::with_gaps(problem.rows, problem.columns, i % 4);
    const auto start = problem.y.clone();
    for (const auto set : supported_instruction_sets()) {
      const auto& kernels = kernel_table(set);
      const auto kernel = transposed ? kernels.multiply_transposed : kernels.multiply;
      const auto product = problem.product(transposed);
      kernel(product, Span{0, problem.rows}, Span{0, problem.columns});
      const auto together = problem.y.clone();
      problem.y.copy_(start);
      for (int64_t row = 0; row < problem.rows; ++row) {
        kernel(product, Span{row, row + 1}, Span{0, problem.columns});
      }
      EXPECT_TRUE(at::equal(problem.y, together)) << name_of(set) << ", case " << i;
      problem.y.copy_(start);
    }
  }
}

TEST(ThinProduct, IsTheSameByPanelsAndByDots) { check_rows_alone(/*transposed=*/true); }

TEST(ThinProduct, IsTheSameWithAndWithoutPacking) { check_rows_alone(/*transposed=*/false); }

/// Powers of two, rows for several tiles and parts, and an x that is strided along the depth.
TEST(ThinProduct, PacksWideMatrices) {
  at::manual_seed(4);
  const auto w = at::randn({1024, 1024}), a = at::randn({16, 1024});
  for (const int64_t rows : {16, 64, 530}) {
    for (const bool strided : {false, true}) {
      const auto x = strided ? at::randn({1024, rows}).t() : at::randn({rows, 1024});
      const auto down = at::randn({rows, 16});
      const auto exact = at::mm(x.to(at::kDouble), w.to(at::kDouble)) +
                         at::mm(down.to(at::kDouble), a.to(at::kDouble));
      const auto found = input_gradient({x, w}, {down, a});
      EXPECT_LE((found - exact).norm().item<double>(), 1e-6 * exact.norm().item<double>());
      EXPECT_TRUE(at::equal(found.narrow(0, 3, 2),
                            input_gradient({x.narrow(0, 3, 2), w}, {down.narrow(0, 3, 2), a})));
    }
  }
}

/// More rows than the cache holds during a pass over w, and rows that start inside a cache line.
TEST(ThinProduct, TakesManyDeepRowsAsEachAlone) {
  at::manual_seed(2);
  constexpr int64_t kRows = 150, kDepth = 2100, kColumns = 140, kRank = 3;
  const auto x = ProductProblem::with_gaps(kRows, kDepth, 3),
             x2 = ProductProblem::with_gaps(kRows, kRank, 1);
  const auto w = at::randn({kColumns, kDepth}), w2 = at::randn({kColumns, kRank});
  const auto exact = at::mm(x.to(at::kDouble), w.t().to(at::kDouble)) +
                     at::mm(x2.to(at::kDouble), w2.t().to(at::kDouble));
  for (const auto set : supported_instruction_sets()) {
    const auto y = at::empty({kRows, kColumns}), alone = at::empty({kRows, kColumns});
    ThinProduct all = {.first = {.x = x.data_ptr<float>(),
                                 .x_row = x.stride(0),
                                 .w = w.data_ptr<float>(),
                                 .w_row = kDepth,
                                 .depth = kDepth},
                       .second = {.x = x2.data_ptr<float>(),
                                  .x_row = x2.stride(0),
                                  .w = w2.data_ptr<float>(),
                                  .w_row = kRank,
                                  .depth = kRank},
                       .rows = kRows,
                       .columns = kColumns,
                       .y = y.data_ptr<float>(),
                       .y_row = kColumns};
    kernel_table(set).multiply_transposed(all, Span{0, kRows}, Span{0, kColumns});
    all.y = alone.data_ptr<float>();
    for (int64_t row = 0; row < kRows; ++row) {
      kernel_table(set).multiply_transposed(all, Span{row, row + 1}, Span{0, kColumns});
    }
    EXPECT_TRUE(at::equal(y, alone)) << name_of(set);
    EXPECT_LE((y - exact).norm().item<double>(), 1e-6 * exact.norm().item<double>());
  }
}

TEST(Products, OfTransposesAreTransposes) {
  for (const int64_t rows : {1, 2, 15, 16, 40}) {
    const auto x = at::randn({rows, 9}), w = at::randn({9, 33});
    const auto found = transposed_product({x, w});
    EXPECT_TRUE(found.is_contiguous());
    EXPECT_TRUE(at::equal(found, product({x, w}).t())) << rows;
  }
}

TEST(Products, TakeTensorsHoweverTheyLie) {
  at::manual_seed(1);
  for (const int64_t rank : {1, 3, 70}) {
    for (int lying = 0; lying < 32; ++lying) {
      const auto matrix = [&](int bit, int64_t rows, int64_t columns) {
        return (lying >> bit & 1) != 0 ? at::randn({columns, rows}).t()
                                       : at::randn({rows, columns});
      };
      const auto x = matrix(0, 6, 50), w = matrix(1, 50, 80), d = matrix(2, 6, rank);
      const auto b = matrix(3, rank, 80);
      const auto bias = (lying & 16) != 0 ? at::randn({160}).slice(0, 0, 160, 2) : at::randn({80});
      const auto wide = [](const at::Tensor& tensor) { return tensor.to(at::kDouble); };
      const auto expected = at::mm(wide(x), wide(w)) + at::mm(wide(d), wide(b)) + wide(bias);
      const auto error = (wide(product({x, w}, {d, b}, bias)) - expected).norm() / expected.norm();
      EXPECT_LE(error.item<double>(), 1e-6) << "rank " << rank << ", lying " << lying;
    }
  }
  EXPECT_EQ(product({at::empty({0, 5}), at::randn({5, 3})}).sizes(), at::IntArrayRef({0, 3}));
  EXPECT_EQ(transposed_product({at::empty({0, 5}), at::randn({5, 3})}).sizes(),
            at::IntArrayRef({3, 0}));
  EXPECT_TRUE(at::equal(product({at::empty({2, 0}), at::empty({0, 3})}, {}, at::ones({3})),
                        at::ones({2, 3})));
}

}  // namespace
}  // namespace lowrank::kernels
