#pragma once

#include "adapter/init/factor_pair.h"

namespace lowrank::init {

/// PiSSA (Meng et al., arXiv 2404.02948; PEFT's pissa_init): with W = U·S·Vᵀ,
/// A = √(S_r/s)·V_rᵀ and B = U_r·√(S_r/s), so that s·B·A is the best approximation of W of its
/// rank. Draws nothing.
///
/// Throws ArgumentError for a rank below 1 or above min(out, in), and for a scaling that is not
/// finite and above 0; TensorError for a W that is no real, finite matrix.
FactorPair pissa(const at::Tensor& w, int64_t rank, double scaling);

/// The same from randomized_svd() with q = rank, which draws: PEFT's "pissa_niter_<iterations>".
/// Quicker than pissa() where the rank is far below min(out, in), and near the best approximation
/// where the singular values fall quickly. Throws ArgumentError for negative `iterations` too.
FactorPair pissa_randomized(const at::Tensor& w, int64_t rank, double scaling, int64_t iterations);

}  // namespace lowrank::init
