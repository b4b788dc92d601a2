#pragma once

#include <ATen/core/Tensor.h>
#include <lowrank/adapter/combine.h>

#include <vector>

#include "adapter/combine/combine_factors.h"

namespace lowrank {

/// One term wᵢ·sᵢ·Bᵢ·Aᵢ of a combination, as matrices in float64 on the device of the first A.
struct WeightedFactors {
  at::Tensor a;  // (r, in · kernel)
  at::Tensor b;  // (out, r)
  double scaling;
  double weight;
};

/// Checks what combine_factors() is given (it says what is thrown) and flattens it.
std::vector<WeightedFactors> weighted_factors(const std::vector<ScaledFactors>& inputs,
                                              const std::vector<double>& weights,
                                              CombineMethod method);

/// The dtype that holds what any of the factors holds.
at::ScalarType widest_dtype(const std::vector<ScaledFactors>& inputs);

}  // namespace lowrank
