#pragma once

#include <ATen/core/Tensor.h>
#include <lowrank/export.h>
#include <lowrank/linalg/rank_rule.h>
#include <lowrank/linalg/thin_svd.h>

#include <string>

namespace lowrank {

struct FactorizeOptions {
  bool balanced = false;   // true: √S on each side; false: B = U_r·S_r and A = V_rᵀ
  std::string name = "W";  // what messages call the matrix
};

/// W ≈ B·A, the nearest matrix of its rank in the Frobenius and the spectral norm (Eckart-Young).
struct Factors {
  at::Tensor b;  // (m, r), contiguous
  at::Tensor a;  // (r, n), contiguous

  int64_t rank() const { return a.size(0); }
};

/// Factorizes `w` (m, n) with the rank that `rule` chooses: `auto [b, a] = factorize(w, rule)`.
/// The factors are on w's device in the dtype that thin_svd() computes in. Rank 0 (an empty or a
/// zero matrix) gives B (m, 0) and A (0, n), whose product is the zero matrix. Throws what
/// thin_svd() and RankRule::choose() throw; a rank that cannot be is refused before any work is
/// done.
LOWRANK_API Factors factorize(const at::Tensor& w, const RankRule& rule,
                              const FactorizeOptions& options = {});

/// The same from a decomposition that is at hand, for callers that want the singular values too.
LOWRANK_API Factors truncate(const Svd& decomposition, const RankRule& rule,
                             const FactorizeOptions& options = {});

}  // namespace lowrank
