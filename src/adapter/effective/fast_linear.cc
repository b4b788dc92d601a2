#include "adapter/effective/fast_linear.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <c10/core/impl/LocalDispatchKeySet.h>
#include <torch/csrc/autograd/custom_function.h>

#include "adapter/effective/differentiation.h"
#include "adapter/effective/mark.h"
#include "kernels/linear.h"
#include "kernels/products.h"

namespace lowrank::effective {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

bool defers(const at::Tensor& weight, const GradientProduct& gradient) {
  const auto deferred = deferred_gradient_of(weight);
  return deferred != nullptr && deferred->offer(gradient);
}

/// Stands for "no bias": autograd's nodes take no undefined tensors.
const at::Tensor& absent_bias() {
  static const at::Tensor none = at::empty({0});
  return none;
}

struct LinearNode : torch::autograd::Function<LinearNode> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, const at::Tensor& weight,
                            const at::Tensor& bias) {
    context->save_for_backward({x, weight});
    const BelowAutograd below;
    return kernels::linear_forward(x, weight, bias.is_same(absent_bias()) ? at::Tensor() : bias);
  }

  static variable_list backward(AutogradContext* context, const variable_list& output_gradients) {
    const auto saved = context->get_saved_variables();
    const auto &x = saved[0], &weight = saved[1], &dy = output_gradients[0];
    const bool wants_x = context->needs_input_grad(0), wants_bias = context->needs_input_grad(2);
    bool wants_weight = context->needs_input_grad(1);
    // Under create_graph the gradients are differentiated again.
    if (at::GradMode::is_enabled() || !kernels::is_plain_matrix(dy)) {
      return {wants_x ? at::mm(dy, weight) : at::Tensor(),
              wants_weight ? at::mm(dy.t(), x) : at::Tensor(),
              wants_bias ? dy.sum(0) : at::Tensor()};
    }
    wants_weight = wants_weight && !defers(weight, {dy, x});
    const BelowAutograd below;
    const auto gradients = kernels::linear_backward(
        dy, x, weight, {.x = wants_x, .weight = wants_weight, .bias = wants_bias});
    return {gradients.x, gradients.weight, gradients.bias};
  }
};

}  // namespace

at::Tensor try_fast_linear(const at::Tensor& x, const at::Tensor& matrix,
                           const OptionalTensor& bias) {
  const auto plain_bias = bias ? *bias : at::Tensor();
  const bool usable = c10::impl::tls_is_dispatch_key_excluded(c10::DispatchKey::AutocastCPU) &&
                      x.dim() >= 1 && !has_tangent(x) && !has_tangent(matrix) &&
                      !has_tangent(plain_bias) &&
                      !(matrix.is_inference() && at::GradMode::is_enabled());
  if (!usable) return {};
  const auto rows = x.dim() == 2 ? x : x.reshape({-1, x.size(-1)});
  if (!kernels::is_plain_linear(rows, matrix, plain_bias)) return {};
  at::Tensor y;
  if (is_differentiated(x) || is_differentiated(matrix) || is_differentiated(plain_bias)) {
    y = LinearNode::apply(rows, matrix, plain_bias.defined() ? plain_bias : absent_bias());
  } else {
    const BelowAutograd below;
    y = kernels::linear_forward(rows, matrix, plain_bias);
  }
  if (x.dim() == 2) return y;
  auto shape = x.sizes().vec();
  shape.back() = matrix.size(0);
  return y.view(shape);
}

}  // namespace lowrank::effective
