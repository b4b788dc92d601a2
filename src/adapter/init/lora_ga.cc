#include "adapter/init/lora_ga.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <fmt/ranges.h>
#include <lowrank/error.h>

#include <algorithm>
#include <cmath>

#include "linalg/matrix.h"
#include "linalg/randomized_svd.h"
#include "linalg/spectral_norm.h"

namespace lowrank::init {
namespace {

constexpr auto kLoraGa = "lora_ga";

struct Indices {
  at::Tensor a;
  at::Tensor b;
};

Indices chosen(LoraGaDirection direction, int64_t rank) {
  const auto range = [](int64_t begin, int64_t end, int64_t step) {
    return at::arange(begin, end, step, at::TensorOptions(at::kLong));
  };
  switch (direction) {
    case LoraGaDirection::kArBr:
      return {.a = range(1, 2 * rank, 2), .b = range(0, 2 * rank, 2)};
    case LoraGaDirection::kA2rBr:
      return {.a = range(rank, 2 * rank, 1), .b = range(0, rank, 1)};
    case LoraGaDirection::kRandom: {
      const auto drawn = at::randperm(2 * rank, at::TensorOptions(at::kLong)).narrow(0, 0, rank);
      return {.a = drawn, .b = drawn};
    }
    case LoraGaDirection::kArB2r:
      break;
  }
  return {.a = range(0, rank, 1), .b = range(rank, 2 * rank, 1)};
}

/// Returns what B is multiplied by; `first` is the singular value of its first column.
double scale_of_b(const LoraGaConfig& options, const at::Tensor& w, double scaling, double first) {
  switch (options.scale) {
    case LoraGaScale::kStable:
      return std::pow(static_cast<double>(w.size(0)), 0.25) / std::sqrt(options.stable_gamma);
    case LoraGaScale::kWeightSvd:
      return first > 0 ? lanczos_spectral_norm(w) / first : 1;
    case LoraGaScale::kGdScale:
      return 1 / scaling;
    case LoraGaScale::kUnit:
      break;
  }
  return 1;
}

void check(const LoraGaConfig& options) {
  if (std::isfinite(options.stable_gamma) && options.stable_gamma > 0) return;
  fail<ArgumentError>(kLoraGa, "stable_gamma must be finite and above 0",
                      fmt::format("{}", options.stable_gamma));
}

}  // namespace

FactorPair lora_ga(const at::Tensor& w, const at::Tensor& gradient, int64_t rank, double scaling,
                   const LoraGaConfig& options) {
  const at::NoGradGuard no_grad;
  const auto matrix = finite_matrix(kLoraGa, "W", w);
  const auto g = finite_matrix(kLoraGa, "the gradient", gradient).to(w.device(), at::kDouble);
  if (g.sizes() != matrix.sizes()) {
    fail<TensorError>(
        kLoraGa,
        fmt::format("the gradient must have the shape of W, ({})", fmt::join(w.sizes(), ", ")),
        fmt::format("({})", fmt::join(g.sizes(), ", ")));
  }
  const int64_t smaller = std::min(w.size(0), w.size(1));
  require_rank(kLoraGa, rank, smaller / 2, "half of the smaller of out and in");
  require_scaling(kLoraGa, scaling);
  check(options);

  const auto [u, s, v] = randomized_svd(g, std::min(4 * rank, smaller), /*iterations=*/4);
  const auto [for_a, for_b] = chosen(options.direction, rank);
  const auto s_b = s.index_select(0, for_b.to(w.device()));
  auto a = v.index_select(1, for_a.to(w.device())).t();
  auto b = u.index_select(1, for_b.to(w.device())) * s_b;
  if (options.scale == LoraGaScale::kGdScale) a = a / scaling;
  b = b * scale_of_b(options, matrix.to(at::kDouble), scaling, s_b[0].item<double>());
  const auto dtype = matrix.scalar_type();
  return {.a = a.to(dtype).contiguous(), .b = b.to(dtype).contiguous()};
}

}  // namespace lowrank::init
