#include "linalg/leading_svd.h"

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>

#include <algorithm>

#include "linalg/randomized_svd.h"

namespace lowrank {
namespace {

constexpr int64_t kOversampling = 16, kIterations = 6;
/// LAPACK needs about 20·m·n·min(m, n) operations, subspace iteration 4·m·n·q·(iterations + 1).
constexpr int64_t kWorthwhile = 8;

}  // namespace

Svd leading_svd(const at::Tensor& matrix, const RankRule& rule) {
  const auto known = rule.known_rank(matrix.size(0), matrix.size(1));
  const auto smaller = std::min(matrix.size(0), matrix.size(1));
  if (!known || (*known + kOversampling) * kWorthwhile > smaller) return thin_svd(matrix);
  // The same matrix gives the same factors, whatever was drawn before.
  const auto generator = at::detail::createCPUGenerator(/*seed_val=*/0);
  auto svd = randomized_svd(matrix, *known + kOversampling, kIterations, generator);
  return {svd.u.narrow(1, 0, *known), svd.s.narrow(0, 0, *known), svd.v.narrow(1, 0, *known)};
}

}  // namespace lowrank
