#pragma once

#include "adapter/init/factor_pair.h"

namespace lowrank::init {

/// PiSSA (Meng et al., arXiv 2404.02948; PEFT's pissa_init): with W = U·S·Vᵀ, A = √(S_r/s)·V_rᵀ and
/// B = U_r·√(S_r/s), so that s·B·A is the best approximation of W with this rank. Draws no random
/// numbers.
///
/// Throws ArgumentError for a rank below 1 or above min(out, in), and for a scaling that is not
/// finite and above 0. Throws TensorError for a W that is not a real, finite matrix.
FactorPair pissa(const at::Tensor& w, int64_t rank, double scaling);

/// Does the same with randomized_svd() and q = rank, which draws random numbers: PEFT's
/// "pissa_niter_<iterations>". This is quicker than pissa() if the rank is far below min(out, in),
/// and near the best approximation if the singular values fall quickly. Also throws ArgumentError
/// for negative `iterations`.
FactorPair pissa_randomized(const at::Tensor& w, int64_t rank, double scaling, int64_t iterations);

}  // namespace lowrank::init
