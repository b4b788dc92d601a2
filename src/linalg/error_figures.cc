#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <fmt/ranges.h>
#include <lowrank/error.h>
#include <lowrank/linalg/error_figures.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "linalg/matrix.h"
#include "linalg/spectral_norm.h"

namespace lowrank {
namespace {

constexpr int64_t kLargestDecomposed = 512;  // above it the iteration is many times faster

void require_fitting(const at::Tensor& w, const at::Tensor& b, const at::Tensor& a) {
  if (b.size(0) == w.size(0) && b.size(1) == a.size(0) && a.size(1) == w.size(1)) return;
  fail<TensorError>("error figures", "the shapes must be W (m, n), B (m, r) and A (r, n)",
                    fmt::format("({}), ({}) and ({})", fmt::join(w.sizes(), ", "),
                                fmt::join(b.sizes(), ", "), fmt::join(a.sizes(), ", ")));
}

/// max |x|, without a temporary of x's size.
double largest_magnitude(const at::Tensor& x) {
  if (x.numel() == 0) return 0;
  const auto [least, most] = at::aminmax(x);
  return std::max(std::abs(least.item<double>()), std::abs(most.item<double>()));
}

/// The Frobenius norm, of x scaled by a power of two (which is exact): the squares of float64's
/// largest and smallest numbers are not float64 numbers.
double frobenius_norm(const at::Tensor& x, double largest) {
  if (largest == 0) return 0;
  const int exponent = std::ilogb(largest);
  const bool scaled = std::abs(exponent) > 400;
  const auto y = scaled ? x * std::ldexp(1.0, -exponent) : x;
  const double norm = y.norm().item<double>();
  return scaled ? std::ldexp(norm, exponent) : norm;
}

double spectral_norm(const at::Tensor& r, double largest) {
  if (largest == 0) return 0;
  if (std::min(r.size(0), r.size(1)) > kLargestDecomposed) return lanczos_spectral_norm(r);
  return at::linalg_svdvals(r)[0].item<double>();
}

}  // namespace

ErrorFigures error_figures(const at::Tensor& w, const at::Tensor& b, const at::Tensor& a) {
  const at::NoGradGuard no_grad;
  constexpr auto kOperation = "error figures";
  const auto checked_b = finite_matrix(kOperation, "B", b).to(at::kDouble);
  const auto checked_a = finite_matrix(kOperation, "A", a).to(at::kDouble);
  auto r = finite_matrix(kOperation, "W", w).to(at::kDouble);
  require_fitting(w, b, a);

  const double size = frobenius_norm(r, largest_magnitude(r));
  // W's float64 copy becomes the residual, where it is a copy.
  r = r.is_alias_of(w) ? at::addmm(r, checked_b, checked_a, 1, -1)
                       : r.addmm_(checked_b, checked_a, 1, -1);
  ErrorFigures figures;
  figures.largest_entry = largest_magnitude(r);
  figures.frobenius = frobenius_norm(r, figures.largest_entry);
  figures.spectral = spectral_norm(r, figures.largest_entry);
  if (figures.frobenius > 0) {
    figures.relative_frobenius =
        size > 0 ? figures.frobenius / size : std::numeric_limits<double>::infinity();
  }
  figures.retained_energy = 1 - figures.relative_frobenius * figures.relative_frobenius;
  return figures;
}

}  // namespace lowrank
