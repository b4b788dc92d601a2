#pragma once

#include <ATen/core/Tensor.h>
#include <lowrank/linalg/rank_rule.h>

#include <cstdint>
#include <functional>
#include <vector>

namespace lowrank {

/// A layer whose rank is to be chosen together with those of others.
struct BudgetLayer {
  int64_t cost = 1;   ///< parameters of one rank: rows + columns
  int64_t least = 1;  ///< the rank it has at least
  int64_t most = 1;   ///< and at most
};

/// Returns what a (rows, columns) matrix may have: at least 1, and what within() of the rule
/// allows.
BudgetLayer budget_layer(const RankRule& rule, int64_t rows, int64_t columns);

/// Returns the ranks of layers that together have at most `budget` parameters: from `least` on, the
/// singular value with the largest σ² per parameter is taken next, until one does not fit. With the
/// parameters that are used no other ranks within these limits leave a smaller error Σ σ²; what the
/// rest of the budget could still take is less than one rank.
///
/// `values` returns the largest k singular values of layer i, in descending order, with k ≤ `most`;
/// it is called with a larger k for a layer all of whose values were taken. Throws ArgumentError
/// with `operation` if the budget is less than what `least` takes.
std::vector<int64_t> ranks_within_budget(
    const std::vector<BudgetLayer>& layers, int64_t budget, const char* operation,
    const std::function<at::Tensor(size_t i, int64_t k)>& values);

}  // namespace lowrank
