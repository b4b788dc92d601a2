#pragma once

#include <ATen/core/Tensor.h>

namespace lowrank {

/// The largest singular value of the float64 or float32 `matrix` (m, n), without decomposing it:
/// Golub-Kahan-Lanczos bidiagonalization with full reorthogonalization (Golub and Van Loan,
/// Matrix Computations, 10.4) from a fixed start. Stops once its error estimate is below 1e-9 of
/// the value (1e-6 for float32), or after 300 steps.
double lanczos_spectral_norm(const at::Tensor& matrix);

}  // namespace lowrank
