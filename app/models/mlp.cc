#include "app/models/mlp.h"

#include <ATen/ATen.h>
#include <fmt/ranges.h>
#include <lowrank/error.h>
#include <lowrank/nn/linear_relu.h>

#include <algorithm>
#include <utility>

namespace lowrank::app {

MlpImpl::MlpImpl(MlpOptions options) : options_(std::move(options)) {
  const auto& sizes = options_.sizes;
  if (sizes.size() < 2 || *std::min_element(sizes.begin(), sizes.end()) < 1) {
    fail<ArgumentError>("mlp", "sizes must be at least two numbers of at least 1",
                        fmt::format("{}", fmt::join(sizes, "-")));
  }
  for (size_t i = 1; i < sizes.size(); ++i) {
    layers_.emplace_back(
        register_module(fmt::format("linear{}", i), torch::nn::Linear(sizes[i - 1], sizes[i])));
  }
}

at::Tensor MlpImpl::forward(at::Tensor x) {
  if (x.dim() > 2) x = x.flatten(1);
  for (size_t i = 0; i + 1 < layers_.size(); ++i) x = nn::linear_relu(*layers_[i], x);
  return layers_.back()->forward(x);
}

}  // namespace lowrank::app
