#pragma once

#include <ATen/core/Tensor.h>
#include <lowrank/export.h>
#include <lowrank/linalg/rank_rule.h>
#include <lowrank/linalg/thin_svd.h>

#include <string_view>

namespace lowrank {

/// Decomposes `w` (m, n) as far as the rule needs it. If the rule is a rank far below min(m, n),
/// block Lanczos finds the leading triplets. For rank 16 of a 4096 x 4096 matrix it takes a
/// hundredth of the time of a full decomposition. The error of the approximation is at most a
/// hundredth above the optimum (tested with spectra that fall fast, slowly, in steps and not at
/// all). Otherwise, and where Lanczos would take longer, this is thin_svd(), with all triplets. The
/// dtypes and errors are those of thin_svd(). Also throws ArgumentError for a rank that the matrix
/// cannot have.
LOWRANK_API Svd leading_svd(const at::Tensor& w, const RankRule& rule, std::string_view name = "W");

}  // namespace lowrank
