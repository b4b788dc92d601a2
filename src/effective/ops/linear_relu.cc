#include "effective/ops/linear_relu.h"

#include "effective/nodes/linear.h"
#include "effective/nodes/lora_linear.h"

namespace lowrank::effective {

at::Tensor try_linear_relu(const at::Tensor& x, const at::Tensor& weight,
                           const OptionalTensor& bias) {
  if (!is_marked(weight) || is_marked(x) || x.dim() < 1) return {};
  const auto use = use_of_matrix(weight, Side::kMatrix);
  const bool off = use && use->is_off();
  if (use && !off) {
    if (use->is_replaced()) return {};
    return try_adapted_linear_relu(x, without_mark(weight), bias, *use);
  }
  const bool marked_bias = bias && bias->defined() && is_marked(*bias);
  if ((off && use->meaning().observe) || marked_bias || !is_fast(weight, /*transposed=*/false)) {
    return {};
  }
  return try_fast_linear(x, without_mark(weight), bias, kernels::Activation::kRelu);
}

}  // namespace lowrank::effective
