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

/// Checks the inputs of combine_factors(), which lists the errors, and flattens them.
std::vector<WeightedFactors> weighted_factors(const std::vector<ScaledFactors>& inputs,
                                              const std::vector<double>& weights,
                                              CombineMethod method);

/// The narrowest dtype that holds the values of all factors.
at::ScalarType widest_dtype(const std::vector<ScaledFactors>& inputs);

}  // namespace lowrank
