#include "linalg/norm_in_float64.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>

#include "linalg/blocks.h"

namespace lowrank {
namespace {

/// √Σ (x / scale)².
double scaled_root(const at::Tensor& numbers, double scale) {
  double sum = 0;
  for (int64_t begin = 0; begin < numbers.numel(); begin += kBlockNumbers) {
    const auto size = std::min(kBlockNumbers, numbers.numel() - begin);
    auto part = numbers.narrow(0, begin, size).to(at::kDouble);
    if (scale != 1) part = part / scale;
    sum += part.dot(part).item<double>();
  }
  return std::sqrt(sum);
}

}  // namespace

double norm_in_float64(const at::Tensor& x) {
  constexpr double kSmall = 1e-140, kLarge = 1e140;  // their squares, and many of them, are held
  const bool is_transposed = x.dim() == 2 && !x.is_contiguous() && x.t().is_contiguous();
  const auto numbers = (is_transposed ? x.t() : x).reshape({-1});
  const double root = scaled_root(numbers, 1);
  if (std::isnan(root) || (root > kSmall && root < kLarge)) return root;
  const double largest = numbers.numel() == 0 ? 0 : numbers.abs().max().item<double>();
  if (largest == 0 || !std::isfinite(largest)) return largest;
  return largest * scaled_root(numbers, largest);
}

}  // namespace lowrank
