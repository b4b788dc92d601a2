#include "adapter/init/pissa.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <fmt/format.h>
#include <lowrank/error.h>

#include <algorithm>

#include "linalg/matrix.h"
#include "linalg/randomized_svd.h"

namespace lowrank::init {
namespace {

constexpr auto kPissa = "pissa";

at::Tensor checked(const at::Tensor& w, int64_t rank, double scaling) {
  auto matrix = finite_matrix(kPissa, "W", w);
  require_rank(kPissa, rank, std::min(w.size(0), w.size(1)), "the smaller of out and in");
  require_scaling(kPissa, scaling);
  return matrix;
}

}  // namespace

FactorPair pissa(const at::Tensor& w, int64_t rank, double scaling) {
  const at::NoGradGuard no_grad;
  const auto matrix = checked(w, rank, scaling);
  const auto decomposition = thin_svd(matrix.to(at::kDouble));
  return balanced_factors(triplets(decomposition, 0, rank), scaling, matrix.scalar_type());
}

FactorPair pissa_randomized(const at::Tensor& w, int64_t rank, double scaling, int64_t iterations) {
  const at::NoGradGuard no_grad;
  const auto matrix = checked(w, rank, scaling);
  if (iterations < 0) {
    fail<ArgumentError>(kPissa, "the number of iterations must be at least 0",
                        fmt::format("{}", iterations));
  }
  return balanced_factors(randomized_svd(matrix.to(at::kDouble), rank, iterations), scaling,
                          matrix.scalar_type());
}

}  // namespace lowrank::init
