#include "adapter/init/factor_pair.h"

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <lowrank/error.h>

#include <cmath>

namespace lowrank::init {

FactorPair balanced_factors(const Svd& decomposition, double scaling, at::ScalarType dtype) {
  const auto& [u, s, v] = decomposition;
  const auto root = (s / scaling).sqrt();
  return {.a = (root.unsqueeze(1) * v.t()).to(dtype).contiguous(),
          .b = (u * root).to(dtype).contiguous()};
}

Svd triplets(const Svd& decomposition, int64_t first, int64_t count) {
  return {.u = decomposition.u.narrow(1, first, count),
          .s = decomposition.s.narrow(0, first, count),
          .v = decomposition.v.narrow(1, first, count)};
}

void require_rank(const char* method, int64_t rank, int64_t most, const char* meaning) {
  if (rank >= 1 && rank <= most) return;
  fail<ArgumentError>(method,
                      fmt::format("the rank must be at least 1 and at most {}, {}", meaning, most),
                      fmt::format("{}", rank));
}

void require_scaling(const char* method, double scaling) {
  if (std::isfinite(scaling) && scaling > 0) return;
  fail<ArgumentError>(method, "the scaling must be finite and above 0", fmt::format("{}", scaling));
}

void discard_linear_draws(int64_t in, int64_t out, int64_t rank) {
  const auto options = at::TensorOptions(at::kFloat);
  at::empty({rank, in}, options).uniform_();
  at::empty({out, rank}, options).uniform_();
}

}  // namespace lowrank::init
