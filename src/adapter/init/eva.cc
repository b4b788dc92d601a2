#include "adapter/init/eva.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <fmt/format.h>
#include <lowrank/error.h>

#include <algorithm>
#include <cmath>

namespace lowrank::init {
namespace {

struct Component {
  double ratio;
  size_t layer;
};

at::Tensor whitening(const EvaSketch& inputs, int64_t rank) {
  const auto s = inputs.singular_values().narrow(0, 0, rank);
  if (s.min().item<double>() <= 0) {
    fail<TensorError>("eva", "the inputs must vary along each component that is whitened",
                      "a singular value of 0", "Choose a smaller rank, or do not whiten.");
  }
  return s.sqrt();
}

}  // namespace

int64_t eva_components(int64_t rank, double rho) {
  if (rank < 1) {
    fail<ArgumentError>("eva", "the rank must be at least 1", fmt::format("{}", rank));
  }
  if (!(std::isfinite(rho) && rho >= 1)) {
    fail<ArgumentError>("eva", "rho must be finite and at least 1", fmt::format("{}", rho));
  }
  return static_cast<int64_t>(std::nearbyint(static_cast<double>(rank) * rho));
}

std::vector<int64_t> eva_ranks(const std::vector<at::Tensor>& ratios,
                               const std::vector<int64_t>& ranks, double rho) {
  if (ratios.size() != ranks.size()) {
    fail<ArgumentError>("eva", fmt::format("there must be ratios for {} layers", ranks.size()),
                        fmt::format("{}", ratios.size()));
  }
  std::vector<Component> all;
  size_t budget = 0;
  for (size_t layer = 0; layer < ranks.size(); ++layer) {
    const auto ratio = ratios[layer].to(at::kCPU, at::kDouble);
    const int64_t most = std::min(eva_components(ranks[layer], rho), ratio.size(0));
    for (int64_t i = 0; i < most; ++i) all.push_back({ratio[i].item<double>(), layer});
    budget += static_cast<size_t>(ranks[layer]);
  }
  std::stable_sort(all.begin(), all.end(), [](const Component& left, const Component& right) {
    return left.ratio > right.ratio;
  });
  all.resize(std::min(budget, all.size()));
  std::vector<int64_t> result(ranks.size(), 0);
  for (const auto& component : all) ++result[component.layer];
  return result;
}

FactorPair eva(const EvaSketch& inputs, int64_t out, int64_t rank, bool whiten) {
  const at::NoGradGuard no_grad;
  require_rank("eva", rank, inputs.available(), "the number of components of its inputs");
  auto a = inputs.components(rank);
  if (whiten) a /= whitening(inputs, rank).unsqueeze(1);
  a = a.to(at::kFloat);
  return {.a = a, .b = at::zeros({out, rank}, a.options())};
}

}  // namespace lowrank::init
