#include "adapter/combine/combine_inputs.h"

#include <ATen/ATen.h>
#include <lowrank/error.h>

#include <cmath>
#include <limits>
#include <string>

#include "adapter/combine/combine_problem.h"
#include "support/expect_error.h"

namespace lowrank {
namespace {

TEST(CombineFactors, RefusesNumbersThatDoNotFit) {
  const auto inputs = adapters({2, 3});
  LOWRANK_EXPECT_ERROR(combine_factors({}, {}, {}), ArgumentError,
                       "[combine] there must be at least one adapter to combine. Got none.");
  LOWRANK_EXPECT_ERROR(combine_factors(inputs, kWeights, {}), ArgumentError,
                       "[combine] there must be one weight for each of the 2 adapters. Got 3.");
  LOWRANK_EXPECT_ERROR(combine_factors(inputs, {1, std::nan("")}, {}), ArgumentError,
                       "[combine] the weight of adapter 2 must be finite. Got nan.");
  auto infinite = inputs;
  infinite[0].scaling = std::numeric_limits<double>::infinity();
  LOWRANK_EXPECT_ERROR(combine_factors(infinite, {1, 1}, {}), ArgumentError,
                       "[combine] the scaling of adapter 1 must be finite. Got inf.");
  LOWRANK_EXPECT_ERROR(combine_factors(inputs, {1, 1}, {.rank = -2}), ArgumentError,
                       "[combine] the rank must be at least 1");
}

TEST(CombineFactors, RefusesUnequalRanksWhereTheFactorsAreMerged) {
  for (const auto method :
       {CombineMethod::kLinear, CombineMethod::kTies, CombineMethod::kDareLinear,
        CombineMethod::kDareTies, CombineMethod::kMagnitudePrune}) {
    LOWRANK_EXPECT_ERROR(combine_factors(adapters({2, 3}), {1, 1}, {.method = method}), TensorError,
                         std::string("[combine] the ranks must be equal with ") +
                             combine_method_name(method) +
                             ". Got 2, 3. cat, svd and the *_svd methods take any ranks.");
  }
}

TEST(CombineFactors, RefusesTensorsThatDoNotFit) {
  const auto good = adapters({2, 3});
  const auto with_second = [&](const at::Tensor& a, const at::Tensor& b) {
    return combine_factors({good[0], {.a = a, .b = b}}, {1, 1}, {});
  };
  LOWRANK_EXPECT_ERROR(with_second(at::ones({3, 16}), at::ones({11, 3})), TensorError,
                       "[combine] the factors of adapter 2 must fit the layer that adapter 1's "
                       "factors fit, (2, 17) and (11, 2). Got (3, 16) and (11, 3).");
  LOWRANK_EXPECT_ERROR(with_second(at::ones({3, 17}), at::ones({11, 2})), TensorError,
                       "[combine] lora_A of adapter 2 must be (rank, in) and lora_B (out, rank). "
                       "Got (3, 17) and (11, 2).");
  LOWRANK_EXPECT_ERROR(with_second(at::ones({4, 2, 3, 3}), at::ones({6, 2, 1, 1})), TensorError,
                       "The factors of grouped convolutions cannot be combined.");
  LOWRANK_EXPECT_ERROR(with_second(at::ones({3}), at::ones({11, 3})), TensorError,
                       "[combine] lora_A of adapter 2 must be a matrix of 2 dimensions. Got 1 "
                       "dimension, (3).");
  LOWRANK_EXPECT_ERROR(with_second(at::ones({3, 17}), at::Tensor()), TensorError,
                       "[combine] lora_B of adapter 2 must be a matrix. Got an undefined tensor.");
  LOWRANK_EXPECT_ERROR(with_second(at::ones({3, 17}, at::kLong), at::ones({11, 3})), TensorError,
                       "[combine] lora_A of adapter 2 must hold floating-point numbers. Got Long.");
}

TEST(CombineFactors, RefusesNumbersThatAreNotFinite) {
  auto inputs = adapters({2, 3});
  inputs[1].b[4][1] = std::nan("");
  LOWRANK_EXPECT_ERROR(combine_factors(inputs, {1, 1}, {}), TensorError,
                       "[combine] lora_B of adapter 2 must hold only finite numbers. Got 1 NaN, "
                       "the first in row 4, column 1 (counted from 0).");
  LOWRANK_EXPECT_ERROR(
      combine_factors(adapters({2, 3}, at::kHalf), {1e6, 1}, {.method = CombineMethod::kCat}),
      TensorError,
      "[combine] the combined lora_A must fit into Half. Got a larger number. Scale the weights "
      "down, or use a wider dtype.");
}

}  // namespace
}  // namespace lowrank
