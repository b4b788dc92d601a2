#include "adapter/init/eva_sketch.h"

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <ATen/core/grad_mode.h>
#include <fmt/format.h>
#include <lowrank/error.h>

#include <algorithm>
#include <cmath>

#include "adapter/init/layer_inputs.h"
#include "linalg/randomized_svd.h"

namespace lowrank::init {
namespace {

constexpr auto kEva = "eva";
constexpr int64_t kLargestDecomposed = 512;
constexpr uint64_t kSeed = 42;

/// Returns at least the first `kept` triplets of `rows`.
Svd leading(const at::Tensor& rows, int64_t kept) {
  const int64_t smaller = std::min(rows.size(0), rows.size(1));
  if (smaller <= kLargestDecomposed) return thin_svd(rows, "the inputs");
  return randomized_svd(rows, std::min(2 * kept, smaller), /*iterations=*/4,
                        at::detail::createCPUGenerator(kSeed));
}

/// Returns `components` with the sign of each row chosen so that its largest entry is positive.
at::Tensor with_fixed_signs(const at::Tensor& components) {
  const auto largest = components.abs().argmax(1, /*keepdim=*/true);
  return components * components.gather(1, largest).sign();
}

}  // namespace

EvaSketch::EvaSketch(int64_t wanted) : wanted_(wanted) {
  if (wanted < 1) {
    fail<ArgumentError>(kEva, "the number of components must be at least 1",
                        fmt::format("{}", wanted));
  }
}

void EvaSketch::add(const at::Tensor& x) {
  const at::NoGradGuard no_grad;
  const auto batch = layer_inputs(kEva, x, mean_.defined() ? mean_.size(0) : 0);
  if (batch.numel() == 0) return;
  const auto center = batch.mean(0);
  auto rows = batch - center;
  variance_ += rows.square().sum().item<double>();
  const auto count = static_cast<double>(batch.size(0));
  if (samples_ == 0) {
    mean_ = center;
  } else {
    const auto seen = static_cast<double>(samples_);
    const auto shift = std::sqrt(seen * count / (seen + count)) * (mean_ - center);
    variance_ += shift.square().sum().item<double>();
    rows = at::cat({singular_.unsqueeze(1) * components_, rows, shift.unsqueeze(0)});
    mean_ = mean_ + (center - mean_) * (count / (seen + count));
  }
  samples_ += batch.size(0);

  const int64_t most = 2 * wanted_;
  const auto [u, s, v] = leading(rows, most);
  previous_ = components_;
  singular_ = s.slice(0, 0, most);
  components_ = with_fixed_signs(v.slice(1, 0, most).t());
}

int64_t EvaSketch::available() const {
  return components_.defined() ? std::min(wanted_, components_.size(0)) : 0;
}

at::Tensor EvaSketch::components(int64_t rank) const {
  if (rank < 0 || rank > available()) {
    fail<ArgumentError>(kEva,
                        fmt::format("the rank must be at most {}, the number of components of {} "
                                    "inputs",
                                    available(), samples_),
                        fmt::format("{}", rank));
  }
  return rank == 0 ? at::empty({0, mean_.defined() ? mean_.size(0) : 0}, at::kDouble)
                   : components_.narrow(0, 0, rank).clone();
}

at::Tensor EvaSketch::singular_values() const {
  return available() == 0 ? at::empty({0}, at::kDouble)
                          : singular_.narrow(0, 0, available()).clone();
}

at::Tensor EvaSketch::explained_variance_ratios() const {
  const auto squares = singular_values().square();
  return variance_ > 0 ? squares / variance_ : at::zeros_like(squares);
}

bool EvaSketch::converged(int64_t rank, double tau) const {
  if (!previous_.defined() || rank > std::min(available(), previous_.size(0))) return false;
  const auto cosines = (components_.narrow(0, 0, rank) * previous_.narrow(0, 0, rank)).sum(1).abs();
  return (cosines >= tau).all().item<bool>();
}

}  // namespace lowrank::init
