#pragma once

#include <ATen/core/Tensor.h>
#include <lowrank/adapter/combine.h>

#include <vector>

namespace lowrank {

/// One adapter's update of one layer, ΔW = scaling·B·A.
struct ScaledFactors {
  at::Tensor a;  // (r, in), or a convolution's (r, in, kernel...)
  at::Tensor b;  // (out, r), or a convolution's (out, r, 1...)
  double scaling = 1;
};

/// Combines the `inputs` of one layer, one for each adapter that adapts it, with their `weights`
/// (combine.h says what each method does). The result has scaling 1 and the shapes of the inputs
/// but for the rank: that of the inputs, their sum (kCat), or the least of the wanted rank, in and
/// out (and Σ rᵢ for kSvd; more would only add zeros). The *_svd methods give B = U·S and A = Vᵀ.
///
/// Computed in float64 on the device of the first A, and returned there in the inputs' dtype (the
/// widest, where they differ). kSvd forms nothing of (out, in). DARE draws from options.seed alone
/// (its low 32 bits): a caller gives each layer a seed of its own, or equal shapes drop equally.
///
/// Departs from PEFT where that is wrong: the *_svd methods apply sᵢ once, not twice, and one input
/// is treated by the method that was asked for. svd_clamp is not offered.
///
/// Throws ArgumentError as check(options) does, and for a number of weights that is not that of the
/// inputs, for no inputs, and for weights or scalings that are not finite; TensorError for factors
/// that are no finite floating-point tensors or do not fit each other, among them those of grouped
/// convolutions, for unequal ranks where equal ones are needed, and for a result beyond its dtype.
ScaledFactors combine_factors(const std::vector<ScaledFactors>& inputs,
                              const std::vector<double>& weights, const CombineOptions& options);

}  // namespace lowrank
