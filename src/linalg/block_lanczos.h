#pragma once

#include <ATen/core/Tensor.h>
#include <lowrank/linalg/thin_svd.h>

#include <cstdint>
#include <optional>

namespace lowrank {

/// The first `rank` singular triplets of a finite matrix (m, n) of float32 or float64, in its
/// dtype, by block Golub-Kahan-Lanczos with full reorthogonalisation (Golub, Luk and Overton, ACM
/// TOMS 7(2), 1981; its convergence: Musco and Musco, arXiv 1504.05477). W is read in float32, by
/// the kernels for few rows; a last step is taken in the dtype of the matrix.
///
/// It goes on until another block would lower the error ‖W‖² - Σσᵢ² by less than a five-hundredth.
/// Returns nothing if it has not come so far when the blocks span a third of the smaller side: then
/// LAPACK is quicker. The same matrix gives the same triplets, whatever was drawn before.
std::optional<Svd> block_lanczos(const at::Tensor& matrix, int64_t rank);

}  // namespace lowrank
