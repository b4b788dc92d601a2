#pragma once

#include <ATen/core/Generator.h>
#include <ATen/core/Tensor.h>
#include <lowrank/linalg/thin_svd.h>

namespace lowrank {

/// The first `q` singular triplets of the finite float64 `matrix` (m, n), approximately: Halko,
/// Martinsson and Tropp, "Finding structure with randomness", arXiv 0909.4061, algorithms 4.4 and
/// 5.1, with `iterations` (at least 0) steps of subspace iteration; q is from 1 to min(m, n).
///
/// The algorithm and the draws are those of torch.svd_lowrank(q=q, niter=iterations) in current
/// PyTorch for a float32 matrix on a CPU (1.13 starts tall matrices from another side). The start
/// is drawn in float32 from `generator`, or from LibTorch's default CPU generator if that is
/// undefined; everything else is computed in float64.
Svd randomized_svd(const at::Tensor& matrix, int64_t q, int64_t iterations,
                   const at::Generator& generator = {});

}  // namespace lowrank
