#include <ATen/core/grad_mode.h>
#include <lowrank/linalg/leading_svd.h>

#include <algorithm>

#include "linalg/block_lanczos.h"
#include "linalg/matrix.h"

namespace lowrank {

Svd leading_svd(const at::Tensor& w, const RankRule& rule, std::string_view name) {
  /// LAPACK is as quick where the rank is a larger share of the smaller side.
  constexpr int64_t kSmallShare = 8, kSpare = 16;
  const at::NoGradGuard no_grad;
  const auto matrix = finite_matrix("svd", name, w);
  const auto rows = matrix.size(0), columns = matrix.size(1);
  rule.require_possible(rows, columns);
  const auto known = rule.known_rank(rows, columns);
  if (known && *known > 0 && (*known + kSpare) * kSmallShare <= std::min(rows, columns)) {
    if (auto found = block_lanczos(matrix, *known)) return *std::move(found);
  }
  return thin_svd(matrix, name);
}

}  // namespace lowrank
