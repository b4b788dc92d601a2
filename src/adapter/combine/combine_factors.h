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
/// except for the rank. The rank is that of the inputs, their sum (kCat), or the least of the
/// wanted rank, in and out (and Σ rᵢ for kSvd, since more would only add zeros). The *_svd methods
/// give B = U·S and A = Vᵀ.
///
/// The computation is in float64 on the device of the first A. The result is returned there, in the
/// inputs' dtype (the widest if they differ). kSvd never forms an (out, in) matrix. DARE draws from
/// options.seed alone (its low 32 bits), so each layer needs a seed of its own; otherwise layers of
/// the same shape drop the same entries.
///
/// This differs from PEFT where PEFT is wrong: the *_svd methods apply sᵢ once, not twice, and a
/// single input is treated with the requested method. svd_clamp is not supported.
///
/// Throws ArgumentError as check(options) does, for a number of weights that differs from the
/// number of inputs, for no inputs, and for weights or scalings that are not finite. Throws
/// TensorError for factors that are not finite floating-point tensors or do not fit each other
/// (such as those of grouped convolutions), for unequal ranks if the method needs equal ones, and
/// for a result that overflows its dtype.
ScaledFactors combine_factors(const std::vector<ScaledFactors>& inputs,
                              const std::vector<double>& weights, const CombineOptions& options);

}  // namespace lowrank
