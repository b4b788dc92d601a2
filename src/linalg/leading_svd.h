#pragma once

#include <ATen/core/Tensor.h>
#include <lowrank/linalg/rank_rule.h>
#include <lowrank/linalg/thin_svd.h>

namespace lowrank {

/// Decomposes a finite float64 matrix as far as the rule needs it: all singular triplets, or, where
/// the rule is a rank far below min(m, n), the leading ones by subspace iteration, with which the
/// error of the approximation is at most a hundredth above the optimum (tested with spectra that
/// fall fast, slowly, in steps and not at all).
Svd leading_svd(const at::Tensor& matrix, const RankRule& rule);

}  // namespace lowrank
