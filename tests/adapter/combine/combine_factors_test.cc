#include "adapter/combine/combine_factors.h"

#include <ATen/ATen.h>

#include <cmath>
#include <string>

#include "adapter/combine/combine_problem.h"
#include "adapter/combine/combine_reference.h"
#include "support/tolerances.h"

namespace lowrank {
namespace {

using reference::Recipe;

double error_of_truncation(const at::Tensor& w, int64_t rank) {
  return length(at::linalg_svdvals(w).slice(0, rank));
}

struct CombineCase {
  CombineMethod method;
  Recipe recipe;
};

std::string name_of(const testing::TestParamInfo<CombineCase>& info) {
  return combine_method_name(info.param.method);
}

class OnFactors : public testing::TestWithParam<CombineCase> {};

TEST_P(OnFactors, EqualsTheDefinition) {
  const auto& [method, recipe] = GetParam();
  const auto inputs = adapters({3, 3, 3});
  for (const auto sign : {MajoritySign::kTotal, MajoritySign::kFrequency}) {
    const CombineOptions options{.method = method,
                                 .density = method == CombineMethod::kLinear ? 1 : 0.6,
                                 .majority_sign = sign,
                                 .seed = 5};
    const auto result = combine_factors(inputs, kWeights, options);
    EXPECT_EQ(result.scaling, 1);
    ASSERT_EQ(result.a.sizes(), (std::vector<int64_t>{3, 17}));
    ASSERT_EQ(result.b.sizes(), (std::vector<int64_t>{11, 3}));
    expect_near(reference::product(result),
                reference::merged_factors(inputs, kWeights, recipe, options),
                tolerance(at::kDouble, 17).product);
  }
}

INSTANTIATE_TEST_SUITE_P(
    Combine, OnFactors,
    testing::Values(CombineCase{CombineMethod::kLinear, {Recipe::kKeepAll, false}},
                    CombineCase{CombineMethod::kTies, {Recipe::kKeepLargest, true}},
                    CombineCase{CombineMethod::kDareLinear, {Recipe::kKeepRandom, false}},
                    CombineCase{CombineMethod::kDareTies, {Recipe::kKeepRandom, true}},
                    CombineCase{CombineMethod::kMagnitudePrune, {Recipe::kKeepLargest, false}}),
    name_of);

class OnUpdates : public testing::TestWithParam<CombineCase> {};

// No matrix of that rank is nearer to the definition than its truncated SVD (Eckart-Young).
TEST_P(OnUpdates, IsTheBestApproximationOfTheDefinition) {
  const auto& [method, recipe] = GetParam();
  const auto inputs = adapters({2, 4, 3});
  for (const int64_t rank : {0, 1, 5}) {
    const CombineOptions options{.method = method,
                                 .rank = rank,
                                 .density = method == CombineMethod::kSvd ? 1 : 0.6,
                                 .seed = 5};
    const auto result = combine_factors(inputs, kWeights, options);
    const auto wanted = reference::merged_updates(inputs, kWeights, recipe, options);
    const int64_t expected_rank = rank == 0 ? 4 : rank;
    ASSERT_EQ(result.a.sizes(), (std::vector<int64_t>{expected_rank, 17}));
    ASSERT_EQ(result.b.sizes(), (std::vector<int64_t>{11, expected_rank}));
    EXPECT_NEAR(
        length(reference::product(result) - wanted) / error_of_truncation(wanted, expected_rank), 1,
        1e-6);
  }
}

TEST_P(OnUpdates, IsExactWhereTheRankAllows) {
  const auto& [method, recipe] = GetParam();
  const auto inputs = adapters({2, 4, 3});
  const CombineOptions options{
      .method = method, .rank = 100, .density = method == CombineMethod::kSvd ? 1 : 0.6};
  const auto result = combine_factors(inputs, kWeights, options);
  EXPECT_EQ(result.a.size(0), method == CombineMethod::kSvd ? 2 + 4 + 3 : 11);
  expect_near(reference::product(result),
              reference::merged_updates(inputs, kWeights, recipe, options),
              tolerance(at::kDouble, 17).decomposition);
}

INSTANTIATE_TEST_SUITE_P(
    Combine, OnUpdates,
    testing::Values(CombineCase{CombineMethod::kSvd, {Recipe::kKeepAll, false}},
                    CombineCase{CombineMethod::kTiesSvd, {Recipe::kKeepLargest, true}},
                    CombineCase{CombineMethod::kDareLinearSvd, {Recipe::kKeepRandom, false}},
                    CombineCase{CombineMethod::kDareTiesSvd, {Recipe::kKeepRandom, true}},
                    CombineCase{CombineMethod::kMagnitudePruneSvd, {Recipe::kKeepLargest, false}}),
    name_of);

TEST(CombineFactors, CatIsExactForAnyRanksAndScalings) {
  for (const auto dtype : {at::kDouble, at::kFloat}) {
    const auto inputs = adapters({2, 9, 5}, dtype);
    const auto result = combine_factors(inputs, kWeights, {.method = CombineMethod::kCat});
    ASSERT_EQ(result.a.sizes(), (std::vector<int64_t>{16, 17}));
    EXPECT_EQ(result.a.scalar_type(), dtype);
    expect_near(reference::product(result), reference::weighted_sum(inputs, kWeights),
                tolerance(dtype, 16).product);
    EXPECT_TRUE(at::equal(result.b.narrow(1, 2, 9), inputs[1].b)) << "B is not copied as it is";
  }
}

TEST(CombineFactors, SvdOfOneAdapterWithNegativeWeightIsItsNegative) {
  const auto inputs = adapters({3});
  const auto result = combine_factors(inputs, {-2}, {.method = CombineMethod::kSvd});
  expect_near(reference::product(result), -2 * reference::product(inputs[0]),
              tolerance(at::kDouble, 17).decomposition);
}

TEST(CombineFactors, AnAdapterLessItselfIsNothing) {
  const auto one = adapters({3})[0];
  const auto size = length(reference::product(one));
  for (const auto method : {CombineMethod::kCat, CombineMethod::kSvd}) {
    const auto result = combine_factors({one, one}, {1, -1}, {.method = method});
    EXPECT_LE(length(reference::product(result)), 1e-14 * size);
  }
}

// Only rounding to the 11 bits of the half types is lost.
TEST(CombineFactors, HalfTypesAreComputedInFloat64) {
  for (const auto dtype : {at::kHalf, at::kBFloat16}) {
    const double unit = dtype == at::kHalf ? 0x1p-11 : 0x1p-8;
    const auto inputs = adapters({2, 3, 4}, dtype);
    for (const auto method : {CombineMethod::kCat, CombineMethod::kSvd}) {
      const CombineOptions options{.method = method, .rank = method == CombineMethod::kSvd ? 9 : 0};
      const auto result = combine_factors(inputs, kWeights, options);
      EXPECT_EQ(result.a.scalar_type(), dtype);
      EXPECT_EQ(result.b.scalar_type(), dtype);
      expect_near(reference::product(result), reference::weighted_sum(inputs, kWeights), 2 * unit);
    }
  }
  auto mixed = adapters({2, 3, 4}, at::kHalf);
  mixed[1].b = mixed[1].b.to(at::kBFloat16);
  EXPECT_EQ(combine_factors(mixed, kWeights, {}).a.scalar_type(), at::kFloat);
}

TEST(CombineFactors, ConvolutionsAreCombinedAsMatricesAndKeepTheirShapes) {
  const auto inputs = adapters({3, 3, 3});
  Inputs kernels;
  for (const auto& input : inputs) {
    const auto wide = at::cat({input.a, input.a.slice(1, 0, 1)}, 1);  // (3, 18)
    kernels.push_back(
        {.a = wide.view({3, 2, 3, 3}), .b = input.b.view({11, 3, 1, 1}), .scaling = input.scaling});
  }
  auto matrices = kernels;
  for (auto& matrix : matrices) {
    matrix.a = matrix.a.flatten(1);
    matrix.b = matrix.b.flatten(1);
  }
  for (const auto method : {CombineMethod::kCat, CombineMethod::kSvd, CombineMethod::kTies,
                            CombineMethod::kDareTiesSvd}) {
    const auto found = combine_factors(kernels, kWeights, {.method = method});
    const auto expected = combine_factors(matrices, kWeights, {.method = method});
    const int64_t rank = expected.a.size(0);
    EXPECT_EQ(found.a.sizes(), (std::vector<int64_t>{rank, 2, 3, 3}));
    EXPECT_EQ(found.b.sizes(), (std::vector<int64_t>{11, rank, 1, 1}));
    EXPECT_TRUE(at::equal(found.a.flatten(1), expected.a));
    EXPECT_TRUE(at::equal(found.b.flatten(1), expected.b));
  }
}

TEST(CombineFactors, DareKeepsTheDensityAndTheExpectedValue) {
  at::manual_seed(4);
  const ScaledFactors one{.a = at::ones({4, 5000}), .b = at::eye(4), .scaling = 1};
  CombineOptions options{.method = CombineMethod::kDareLinearSvd, .density = 0.3, .seed = 1};
  const auto draw = [&] { return reference::product(combine_factors({one}, {1}, options)); };
  const auto first = draw();
  const double kept = (first > 0.5).to(at::kDouble).mean().item<double>();
  EXPECT_NEAR(kept, 0.3, 5 * std::sqrt(0.3 * 0.7 / 20000));
  EXPECT_NEAR(first.mean().item<double>(), kept / 0.3, 1e-5);
  EXPECT_TRUE(at::equal(first, draw())) << "the same seed must drop the same entries";
  options.seed = 2;
  EXPECT_GT(length(first - draw()), 1);
}

TEST(CombineFactors, DrawsNothingFromTheDefaultGenerator) {
  const auto inputs = adapters({2});
  at::manual_seed(6);
  const auto expected = at::rand({3});
  at::manual_seed(6);
  combine_factors(inputs, {1}, {.method = CombineMethod::kDareTies, .density = 0.5});
  EXPECT_TRUE(at::equal(at::rand({3}), expected));
}

}  // namespace
}  // namespace lowrank
