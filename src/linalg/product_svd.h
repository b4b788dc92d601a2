#pragma once

#include <ATen/core/Tensor.h>
#include <lowrank/linalg/thin_svd.h>

namespace lowrank {

/// The singular value decomposition of the product B·A of `b` (m, r) and `a` (r, n), without
/// forming it: B = Q_b·R_b and Aᵀ = Q_a·R_a, then the decomposition U·S·Vᵀ of the small R_b·R_aᵀ,
/// with U multiplied by Q_b and V by Q_a. Gives k = min(m, n, r) triplets, which are all there are,
/// since the product's rank is at most r. Costs O((m + n)·r² + r³). Both must be finite, and of the
/// same floating dtype (float32 or float64) and device.
Svd product_svd(const at::Tensor& b, const at::Tensor& a);

}  // namespace lowrank
