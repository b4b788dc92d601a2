#pragma once

#include "effective/meaning.h"

/// DoRA (Liu et al., arXiv 2402.09353, section 4.3): m sets the norm of each row of M, and the
/// factors change only the row's direction V = W + s·B·A. The backward pass treats the norm of a
/// row of V as a constant.
namespace lowrank::effective {

/// The norm of each row of V, (out), without an autograd history.
at::Tensor row_norms(const at::Tensor& weight, const Site& site, const Term& term);

/// m / ‖V‖ of a DoRA term, (out). Gradients flow to m, but not through the norm.
at::Tensor magnitude_over_norm(const at::Tensor& weight, const Site& site, const Term& term);

/// (m / ‖V‖)·V in the weight's own shape, under autograd.
at::Tensor dora_weight(const at::Tensor& weight, const Site& site, const Term& term);

}  // namespace lowrank::effective
