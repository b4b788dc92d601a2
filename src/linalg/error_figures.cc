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

constexpr int64_t kLargestDecomposed = 512;  // above it, Lanczos is many times faster

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

/// value * 2^exponent, so that a norm among float64's smallest numbers keeps its digits.
struct Norm {
  double value = 0;
  int exponent = 0;
  double number() const { return std::ldexp(value, exponent); }
};

/// x * 2^-exponent, which is exact. Without the scaling, the squares of float64's largest and
/// smallest numbers would overflow or vanish.
struct Scaled {
  at::Tensor x;
  int exponent = 0;
};

Scaled scaled(const at::Tensor& x, double largest) {
  const int exponent = largest == 0 ? 0 : std::ilogb(largest);
  if (std::abs(exponent) <= 400) return {x, 0};
  // Two factors, because 2^1074, which the smallest number needs, is not a float64 number.
  const int half = exponent / 2;
  return {x * std::ldexp(1.0, -half) * std::ldexp(1.0, half - exponent), exponent};
}

Norm frobenius_norm(const Scaled& scaled) {
  return {scaled.x.norm().item<double>(), scaled.exponent};
}

Norm spectral_norm(const Scaled& scaled) {
  const auto& r = scaled.x;
  if (r.numel() == 0) return {};
  const bool large = std::min(r.size(0), r.size(1)) > kLargestDecomposed;
  return {large ? lanczos_spectral_norm(r) : at::linalg_svdvals(r)[0].item<double>(),
          scaled.exponent};
}

/// part / whole, or infinity if only the whole is 0.
double ratio(const Norm& part, const Norm& whole) {
  if (part.value == 0) return 0;
  if (whole.value == 0) return std::numeric_limits<double>::infinity();
  return std::ldexp(part.value / whole.value, part.exponent - whole.exponent);
}

}  // namespace

ErrorFigures error_figures(const at::Tensor& w, const at::Tensor& b, const at::Tensor& a) {
  const at::NoGradGuard no_grad;
  constexpr auto kOperation = "error figures";
  const auto checked_b = finite_matrix(kOperation, "B", b).to(at::kDouble);
  const auto checked_a = finite_matrix(kOperation, "A", a).to(at::kDouble);
  auto r = finite_matrix(kOperation, "W", w).to(at::kDouble);
  require_fitting(w, b, a);

  const Norm size = frobenius_norm(scaled(r, largest_magnitude(r)));
  // If r is a copy of W, it becomes the residual itself.
  r = r.is_alias_of(w) ? at::addmm(r, checked_b, checked_a, 1, -1)
                       : r.addmm_(checked_b, checked_a, 1, -1);
  ErrorFigures figures;
  figures.largest_entry = largest_magnitude(r);
  const auto residual = scaled(r, figures.largest_entry);
  const Norm frobenius = frobenius_norm(residual);
  figures.frobenius = frobenius.number();
  figures.relative_frobenius = ratio(frobenius, size);
  figures.spectral = spectral_norm(residual).number();
  figures.retained_energy = 1 - figures.relative_frobenius * figures.relative_frobenius;
  return figures;
}

}  // namespace lowrank
