#include "adapter/init/eva.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <lowrank/error.h>

namespace lowrank::init {
namespace {

at::Tensor whitening(const EvaSketch& inputs, int64_t rank) {
  const auto s = inputs.singular_values().narrow(0, 0, rank);
  if (s.min().item<double>() <= 0) {
    fail<TensorError>("eva", "the inputs must vary along each component that is whitened",
                      "a singular value of 0", "Choose a smaller rank, or do not whiten.");
  }
  return s.sqrt();
}

}  // namespace

FactorPair eva(const EvaSketch& inputs, int64_t out, int64_t rank, bool whiten) {
  const at::NoGradGuard no_grad;
  require_rank("eva", rank, inputs.available(), "the number of components of its inputs");
  auto a = inputs.components(rank);
  if (whiten) a /= whitening(inputs, rank).unsqueeze(1);
  a = a.to(at::kFloat);
  return {.a = a, .b = at::zeros({out, rank}, a.options())};
}

}  // namespace lowrank::init
