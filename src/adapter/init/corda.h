#pragma once

#include <lowrank/adapter/init_options.h>

#include "adapter/init/factor_pair.h"

namespace lowrank::init {

/// The mean of XᵀX over batches X of a layer's inputs, where each batch is divided by its largest
/// magnitude. PEFT divides by |max x|, which is near 0 for inputs that are nearly all negative.
class CordaCovariance {
 public:
  /// Adds a batch `x` (..., in). Throws TensorError if it is not finite, is all zero, or has
  /// another `in` than the batches before.
  void add(const at::Tensor& x);
  /// Returns the mean (in, in) in float64. Throws TensorError if no batch was added.
  at::Tensor mean() const;

 private:
  at::Tensor sum_;
  int64_t batches_ = 0;
};

/// CorDA (Yang et al., arXiv 2406.05223; PEFT's tuners/lora/corda.py and corda_init). With C =
/// covariance + 0.01·mean(diagonal)·I (of which only the lower triangle is read) and W·C = U·S·Vᵀ,
/// it gives A = √(S_r/s)·V_rᵀ·C⁻¹ and B = U_r·√(S_r/s). With rank min(out, in), s·B·A is W. In
/// float64 the damping of 0.01 bounds the condition number by about 100·in, so that PEFT's doubling
/// of the damping (for float32) is not needed. Draws no random numbers.
///
/// Throws ArgumentError for a rank below 1 or above min(out, in), and for a scaling that is not
/// finite and above 0. Throws TensorError for tensors that are not real, finite matrices, and for a
/// `covariance` that is not (in, in), is zero, or has a clearly negative eigenvalue.
FactorPair corda(const at::Tensor& w, const at::Tensor& covariance, int64_t rank, double scaling,
                 CordaMethod method);

}  // namespace lowrank::init
