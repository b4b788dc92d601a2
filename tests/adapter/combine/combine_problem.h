#pragma once

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <vector>

#include "adapter/combine/combine_factors.h"

/// The inputs of the tests of combining.
namespace lowrank {

using Inputs = std::vector<ScaledFactors>;

inline const std::vector<double> kWeights = {0.7, -1.3, 0.4};
inline const std::vector<double> kScalings = {2, 0.5, 1.25};

inline double length(const at::Tensor& x) { return x.norm().item<double>(); }

inline void expect_near(const at::Tensor& found, const at::Tensor& expected, double allowed) {
  ASSERT_EQ(found.sizes(), expected.sizes());
  EXPECT_LE(length(found.to(at::kDouble) - expected.to(at::kDouble)),
            allowed * length(expected.to(at::kDouble)));
}

/// Returns adapters of a layer 11 x 17 with these ranks, in float64 by default.
inline Inputs adapters(const std::vector<int64_t>& ranks, at::ScalarType dtype = at::kDouble) {
  at::manual_seed(3);
  Inputs inputs;
  for (size_t i = 0; i < ranks.size(); ++i) {
    inputs.push_back({.a = at::randn({ranks[i], 17}, at::kDouble).to(dtype),
                      .b = at::randn({11, ranks[i]}, at::kDouble).to(dtype),
                      .scaling = kScalings[i]});
  }
  return inputs;
}

}  // namespace lowrank
