#include "adapter/effective/fast_linear.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <c10/core/impl/LocalDispatchKeySet.h>

#include "adapter/effective/differentiation.h"
#include "adapter/effective/mark.h"
#include "adapter/effective/node.h"
#include "kernels/linear.h"
#include "kernels/products.h"

namespace lowrank::effective {
namespace {

bool defers(const at::Tensor& weight, const GradientProduct& gradient) {
  const auto deferred = deferred_gradient_of(weight);
  return deferred != nullptr && deferred->offer(gradient);
}

/// x is (N, in), bias may be undefined.
struct LinearNode : torch::autograd::Node {
  SavedVariable x, weight;

  static at::Tensor call(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias) {
    const auto node = node_after<LinearNode>(x, weight, bias);
    node->x = SavedVariable(x, /*is_output=*/false);
    node->weight = SavedVariable(weight, false);
    auto y = forward(x, weight, bias);
    set_history(y, node);
    return y;
  }

  static at::Tensor forward(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias) {
    const BelowAutograd below;
    return kernels::linear_forward(x, weight, bias);
  }

  variable_list apply(variable_list&& gradients) override {
    const std::lock_guard lock(mutex_);
    const auto& dy = gradients[0];
    if (!dy.defined()) return variable_list(num_outputs());
    const auto x_ = x.unpack(), weight_ = weight.unpack();
    kernels::LinearWanted wanted = {.x = task_should_compute_output(0),
                                    .weight = task_should_compute_output(1),
                                    .bias = task_should_compute_output(2)};
    // Under create_graph the gradients are differentiated again.
    if (at::GradMode::is_enabled() || !kernels::is_plain_matrix(dy)) {
      return {wanted.x ? at::mm(dy, weight_) : at::Tensor(),
              wanted.weight ? at::mm(dy.t(), x_) : at::Tensor(),
              wanted.bias ? dy.sum(0) : at::Tensor()};
    }
    wanted.weight = wanted.weight && !defers(weight_, {dy, x_});
    const BelowAutograd below;
    auto found = kernels::linear_backward(dy, x_, weight_, wanted);
    return {found.x, found.weight, found.bias};
  }

  void release_variables() override {
    const std::lock_guard lock(mutex_);
    x.reset_data();
    weight.reset_data();
  }

  std::string name() const override { return "LinearBackward"; }
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
  const bool differentiated =
      is_differentiated(x) || is_differentiated(matrix) || is_differentiated(plain_bias);
  const auto y = differentiated ? LinearNode::call(rows, matrix, plain_bias)
                                : LinearNode::forward(rows, matrix, plain_bias);
  if (x.dim() == 2) return y;
  auto shape = x.sizes().vec();
  shape.back() = matrix.size(0);
  return y.view(shape);
}

}  // namespace lowrank::effective
