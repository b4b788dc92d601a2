#pragma once

#include <ATen/core/Tensor.h>
#include <lowrank/export.h>
#include <lowrank/linalg/rank_rule.h>
#include <lowrank/linalg/thin_svd.h>

#include <string>

namespace lowrank {

struct FactorizeOptions {
  bool balanced = false;   // true: √S on each side; false: B = U_r·S_r and A = V_rᵀ
  std::string name = "W";  // name of the matrix in messages
};

/// W ≈ B·A, where B·A is the nearest matrix of its rank to W in the Frobenius and the spectral norm
/// (Eckart-Young).
struct Factors {
  at::Tensor b;  // (m, r), contiguous
  at::Tensor a;  // (r, n), contiguous

  int64_t rank() const { return a.size(0); }
};

/// Factorizes `w` (m, n) with the rank that `rule` chooses: `auto [b, a] = factorize(w, rule)`. The
/// factors are on w's device, in the dtype that thin_svd() computes in. Rank 0 (for an empty or
/// zero matrix) gives B (m, 0) and A (0, n), whose product is the zero matrix. Throws what
/// thin_svd() and RankRule::choose() throw; an impossible rank is refused before any work is done.
LOWRANK_API Factors factorize(const at::Tensor& w, const RankRule& rule,
                              const FactorizeOptions& options = {});

/// Returns the same from an existing decomposition, for callers that also want the singular values.
LOWRANK_API Factors truncate(const Svd& decomposition, const RankRule& rule,
                             const FactorizeOptions& options = {});

}  // namespace lowrank
