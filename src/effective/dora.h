#pragma once

#include "effective/meaning.h"

/// DoRA (Liu et al., arXiv 2402.09353, section 4.3): the rows of M keep the magnitudes m, and the
/// factors turn their direction V = W + s·B·A. The norm of a row of V is held constant in backward.
namespace lowrank::effective {

/// ‖V‖ of each row of M, (out), without a history.
at::Tensor row_norms(const at::Tensor& weight, const Site& site, const Term& term);

/// m / ‖V‖ of a DoRA term, (out), without the norm's history.
at::Tensor magnitude_over_norm(const at::Tensor& weight, const Site& site, const Term& term);

/// (m / ‖V‖)·V in the weight's own shape, under autograd.
at::Tensor dora_weight(const at::Tensor& weight, const Site& site, const Term& term);

}  // namespace lowrank::effective
