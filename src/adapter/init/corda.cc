#include "adapter/init/corda.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <fmt/ranges.h>
#include <lowrank/error.h>

#include <algorithm>

#include "adapter/init/layer_inputs.h"
#include "linalg/matrix.h"

namespace lowrank::init {
namespace {

constexpr auto kCorda = "corda";
constexpr double kDamping = 0.01;

/// The lower Cholesky factor of the damped covariance.
at::Tensor damped_root(const at::Tensor& covariance) {
  const double damping = kDamping * covariance.diagonal().mean().item<double>();
  const auto damped = covariance + damping * at::eye(covariance.size(0), covariance.options());
  const auto [root, info] = at::linalg_cholesky_ex(damped);
  if (damping <= 0 || info.item<int64_t>() != 0) {
    fail<TensorError>(kCorda, "the covariance must be positive semidefinite and not zero",
                      damping <= 0 ? "a diagonal that is not positive" : "a negative eigenvalue",
                      "It is the mean of XᵀX over inputs X of the layer.");
  }
  return root;
}

}  // namespace

void CordaCovariance::add(const at::Tensor& x) {
  const at::NoGradGuard no_grad;
  auto rows = layer_inputs(kCorda, x, sum_.defined() ? sum_.size(0) : 0);
  const double largest = rows.numel() == 0 ? 0 : rows.abs().max().item<double>();
  if (largest == 0) {
    fail<TensorError>(kCorda, "a batch of inputs must have an entry that is not 0", "none");
  }
  rows = rows / largest;
  const auto gram = rows.t().mm(rows);
  sum_ = sum_.defined() ? sum_ + gram : gram;
  ++batches_;
}

at::Tensor CordaCovariance::mean() const {
  if (batches_ == 0) fail<TensorError>(kCorda, "inputs must be added before their mean", "none");
  return sum_ / batches_;
}

FactorPair corda(const at::Tensor& w, const at::Tensor& covariance, int64_t rank, double scaling,
                 CordaMethod method) {
  const at::NoGradGuard no_grad;
  const auto matrix = finite_matrix(kCorda, "W", w);
  const auto c = finite_matrix(kCorda, "the covariance", covariance).to(w.device(), at::kDouble);
  if (c.size(0) != w.size(1) || c.size(1) != w.size(1)) {
    fail<TensorError>(kCorda, fmt::format("the covariance must be ({0}, {0})", w.size(1)),
                      fmt::format("({})", fmt::join(c.sizes(), ", ")));
  }
  const int64_t smaller = std::min(w.size(0), w.size(1));
  require_rank(kCorda, rank, smaller, "the smaller of out and in");
  require_scaling(kCorda, scaling);

  const auto root = damped_root(c);
  const auto whole = thin_svd(matrix.to(at::kDouble).mm(root).mm(root.t()), "W·C");
  auto part = triplets(whole, method == CordaMethod::kIpm ? 0 : smaller - rank, rank);
  part.v = at::cholesky_solve(part.v, root);
  return balanced_factors(part, scaling, matrix.scalar_type());
}

}  // namespace lowrank::init
