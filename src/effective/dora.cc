#include "effective/dora.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

namespace lowrank::effective {
namespace {

/// Reshapes a vector (out) so that multiplying the weight by it scales the rows of M.
at::Tensor by_output(const at::Tensor& vector, LayerKind kind, int64_t dimensions) {
  if (is_stored_transposed(kind)) return vector;
  std::vector<int64_t> shape(static_cast<size_t>(dimensions), 1);
  shape[0] = -1;
  return vector.reshape(shape);
}

/// The dimensions of a weight other than its output dimension.
std::vector<int64_t> input_dimensions(LayerKind kind, int64_t dimensions) {
  if (is_stored_transposed(kind)) return {0};
  std::vector<int64_t> inputs;
  for (int64_t i = 1; i < dimensions; ++i) inputs.push_back(i);
  return inputs;
}

/// V = W + s·(B·A - B₀·A₀).
at::Tensor direction(const at::Tensor& weight, const Site& site, const Term& term) {
  return weight + on_device_of(low_rank_delta(term, site, weight.sizes()), weight);
}

at::Tensor norms_of(const at::Tensor& v, LayerKind kind) {
  return at::linalg_vector_norm(v.detach(), 2, input_dimensions(kind, v.dim()));
}

}  // namespace

at::Tensor row_norms(const at::Tensor& weight, const Site& site, const Term& term) {
  const at::NoGradGuard no_grad;
  return norms_of(direction(weight, site, term), site.kind);
}

at::Tensor magnitude_over_norm(const at::Tensor& weight, const Site& site, const Term& term) {
  return on_device_of(term.magnitude, weight) / row_norms(weight, site, term);
}

at::Tensor dora_weight(const at::Tensor& weight, const Site& site, const Term& term) {
  const auto v = direction(weight, site, term);
  const auto scale = on_device_of(term.magnitude, v) / norms_of(v, site.kind);
  return by_output(scale, site.kind, v.dim()) * v;
}

}  // namespace lowrank::effective
