#include "linalg/spectral_norm.h"

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

namespace lowrank {
namespace {

constexpr int64_t kMostSteps = 300;
constexpr int64_t kFirstTest = 8;
constexpr double kAccuracy = 1e-9, kAccuracyInFloat = 1e-6;

/// `x` made orthogonal to the first `count` rows of `basis`; two passes are enough (Kahan).
at::Tensor orthogonalized(at::Tensor x, const at::Tensor& basis, int64_t count) {
  const auto rows = basis.narrow(0, 0, count);
  for (int pass = 0; pass < 2 && count > 0; ++pass) x = x - rows.t().mv(rows.mv(x));
  return x;
}

struct Estimate {
  double value = 0;  // the largest singular value of the bidiagonal matrix
  double error = 0;  // estimated from the next step's off-diagonal entry
};

Estimate largest_of_bidiagonal(const std::vector<double>& diagonal,
                               const std::vector<double>& above, double next) {
  const auto k = static_cast<int64_t>(diagonal.size());
  auto matrix = at::zeros({k, k}, at::kDouble);
  auto entries = matrix.accessor<double, 2>();
  for (int64_t i = 0; i < k; ++i) {
    entries[i][i] = diagonal[static_cast<size_t>(i)];
    if (i + 1 < k) entries[i][i + 1] = above[static_cast<size_t>(i)];
  }
  const auto [u, s, vt] = at::linalg_svd(matrix, /*full_matrices=*/false);
  return {.value = s[0].item<double>(), .error = next * std::abs(u[k - 1][0].item<double>())};
}

at::Tensor fixed_start(const at::Tensor& r) {
  // A generator of its own, so that the caller's random numbers do not depend on this function.
  auto generator = at::detail::createCPUGenerator(/*seed_val=*/0);
  const auto start = at::randn({r.size(1)}, generator, at::kDouble);
  return (start / start.norm()).to(r.device());
}

}  // namespace

double lanczos_spectral_norm(const at::Tensor& matrix) {
  // Start in the smaller space: once the steps have used it up, the result is exact.
  const auto r = matrix.size(0) < matrix.size(1) ? matrix.t() : matrix;
  const int64_t most = std::min(r.size(1), kMostSteps);
  if (most == 0) return 0;
  const auto transposed = r.t();
  const auto times = [](const at::Tensor& m, const at::Tensor& x) {
    return m.mv(x.to(m.scalar_type())).to(at::kDouble);
  };
  const double accuracy = r.scalar_type() == at::kDouble ? kAccuracy : kAccuracyInFloat;
  const auto options = r.options().dtype(at::kDouble);
  auto right = at::zeros({most, r.size(1)}, options);  // the rows are the Lanczos vectors
  auto left = at::zeros({most, r.size(0)}, options);
  right[0] = fixed_start(r);
  std::vector<double> diagonal;
  std::vector<double> above;
  double rounding_level = 0;  // lengths up to this are only rounding
  int64_t next_test = kFirstTest;
  for (int64_t step = 0;; ++step) {
    const auto p = orthogonalized(times(r, right[step]), left, step);
    const double alpha = p.norm().item<double>();
    rounding_level = std::max(rounding_level, alpha * std::numeric_limits<double>::epsilon());
    diagonal.push_back(alpha);
    if (alpha <= rounding_level) return largest_of_bidiagonal(diagonal, above, 0).value;
    left[step] = p / alpha;
    const auto q = orthogonalized(times(transposed, left[step]), right, step + 1);
    const double beta = q.norm().item<double>();
    const bool last = step + 1 == most || beta <= rounding_level;
    if (last || step + 1 == next_test) {
      const auto estimate = largest_of_bidiagonal(diagonal, above, beta);
      if (last || estimate.error <= accuracy * estimate.value) return estimate.value;
      next_test += next_test / 4;  // each test costs more than the one before
    }
    right[step + 1] = q / beta;
    above.push_back(beta);
  }
}

}  // namespace lowrank
