#pragma once

#include <ATen/core/Tensor.h>

namespace lowrank {

/// Rounding to a half type adds noise that grows with the numbers, which is not white: above its
/// threshold (RankRule::noise) there may be singular values of noise alone.
///
/// Returns `difference` (m, n), the difference of two matrices that were rounded to a half type,
/// with its rows and columns scaled so that this noise has about the same variance in each of them
/// (the scales that make the variances doubly stochastic: Sinkhorn and Knopp, Pacific J. Math. 21,
/// 1967). The rank of what was there before the noise stays the same. `before` and `after` are the
/// two matrices, of any dtype.
at::Tensor with_equal_noise(const at::Tensor& difference, const at::Tensor& before,
                            const at::Tensor& after);

}  // namespace lowrank
