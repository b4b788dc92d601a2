#include "linalg/equal_noise.h"

#include <ATen/ATen.h>

#include <tuple>

namespace lowrank {
namespace {

/// The square of the spacing of binary numbers at x, up to a factor; numbers far below the largest
/// one count as its millionth.
at::Tensor spacing_squared(const at::Tensor& numbers) {
  const auto x = numbers.to(at::kDouble).abs();
  const auto least = x.max().clamp_min(1e-100) * 1e-6;
  const auto exponent = std::get<1>(at::frexp(at::maximum(x, least)));
  return at::exp2(2 * exponent.to(at::kDouble));
}

}  // namespace

at::Tensor with_equal_noise(const at::Tensor& difference, const at::Tensor& before,
                            const at::Tensor& after) {
  constexpr int kRounds = 20;
  auto variance = spacing_squared(before) + spacing_squared(after);
  variance = variance / variance.max();
  auto rows = at::ones({variance.size(0), 1}, at::kDouble);
  auto columns = at::ones({1, variance.size(1)}, at::kDouble);
  for (int i = 0; i < kRounds; ++i) {
    rows = variance.mul(columns).mean(1, /*keepdim=*/true).reciprocal();
    columns = variance.mul(rows).mean(0, /*keepdim=*/true).reciprocal();
  }
  return difference * rows.sqrt() * columns.sqrt();
}

}  // namespace lowrank
