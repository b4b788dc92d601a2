#include "effective/nodes/linear_node.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <c10/core/impl/LocalDispatchKeySet.h>
#include <torch/csrc/autograd/functions/accumulate_grad.h>

#include <memory>
#include <string>

#include "effective/compact_weight.h"
#include "effective/differentiation.h"
#include "effective/nodes/node.h"
#include "effective/nodes/rows.h"
#include "kernels/linear.h"
#include "kernels/products.h"

namespace lowrank::effective {

using kernels::Activation;

namespace {

/// The leaf that accumulates a gradient sent along `edge`, unchanged. Null if there is none, for
/// example behind a user's own function that changes the gradient.
const at::TensorImpl* leaf_behind(const torch::autograd::Edge& edge) {
  auto* function = edge.function.get();
  const auto is_same_matrix = [](const std::string& name) {  // nodes of without_mark() and t()
    return name == "AliasBackward0" || name == "TBackward0";
  };
  while (function != nullptr && is_same_matrix(function->name())) {
    function = function->next_edge(0).function.get();
  }
  const auto* leaf = dynamic_cast<torch::autograd::AccumulateGrad*>(function);
  return leaf == nullptr ? nullptr : leaf->variable.unsafeGetTensorImpl();
}

/// x is (N, in), bias may be undefined.
struct LinearNode : torch::autograd::Node {
  SavedVariable x, weight;
  std::weak_ptr<DeferredGradient> deferred;
  SavedActivation activated;

  static at::Tensor call(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                         const AcceleratedWeight* accelerated, Activation activation) {
    const auto node = node_after<LinearNode>(x, weight, bias);
    // Save only what the wanted gradients need: anything else may be written to.
    if (node->should_compute_output(0)) node->weight = SavedVariable(weight, /*is_output=*/false);
    if (node->should_compute_output(1)) {
      node->x = SavedVariable(x, false);
      if (accelerated != nullptr) {
        node->deferred = accelerated->deferred_for(leaf_behind(node->next_edge(1)));
      }
    }
    auto y = forward(x, weight, bias, activation);
    set_history(y, node);
    node->activated.save(activation, y);
    return y;
  }

  static at::Tensor forward(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                            Activation activation) {
    const BelowAutograd below;
    return kernels::linear_forward(x, layer_matrix(weight), bias, activation);
  }

  variable_list apply(variable_list&& gradients) override {
    const std::lock_guard lock(mutex_);
    if (!gradients[0].defined()) return variable_list(num_outputs());
    const auto dy = activated.gradient(gradients[0], shared_from_this());
    const auto x_ = x.unpack(), weight_ = weight.unpack();
    kernels::LinearWanted wanted = {.x = task_should_compute_output(0),
                                    .weight = task_should_compute_output(1),
                                    .bias = task_should_compute_output(2)};
    // Under create_graph the gradients are differentiated again.
    if (at::GradMode::is_enabled() || !kernels::is_kernel_ready_matrix(dy)) {
      return {wanted.x ? at::mm(dy, layer_matrix(weight_).dense()) : at::Tensor(),
              wanted.weight ? at::mm(dy.t(), x_) : at::Tensor(),
              wanted.bias ? dy.sum(0) : at::Tensor()};
    }
    if (wanted.weight) {
      const auto place = deferred.lock();
      wanted.weight = place == nullptr || !place->offer({dy, x_});
    }
    const BelowAutograd below;
    auto found = kernels::linear_backward(dy, x_, layer_matrix(weight_), wanted);
    return {found.x, found.weight, found.bias};
  }

  void release_variables() override {
    const std::lock_guard lock(mutex_);
    x.reset_data();
    weight.reset_data();
    activated.reset();
  }

  std::string name() const override { return "LinearBackward"; }
};

}  // namespace

at::Tensor try_linear_node(const at::Tensor& x, const at::Tensor& matrix, const at::Tensor& bias,
                           const AcceleratedWeight* accelerated, Activation activation) {
  const bool usable = c10::impl::tls_is_dispatch_key_excluded(c10::DispatchKey::AutocastCPU) &&
                      !is_traced() && x.dim() >= 1 && !has_tangent(x) && !has_tangent(matrix) &&
                      !has_tangent(bias) && !(matrix.is_inference() && at::GradMode::is_enabled());
  if (!usable) return {};
  const auto rows = rows_of(x);
  if (!kernels::is_kernel_ready_linear(rows, matrix, bias)) return {};
  const bool differentiated =
      is_differentiated(x) || is_differentiated(matrix) || is_differentiated(bias);
  const auto y = differentiated ? LinearNode::call(rows, matrix, bias, accelerated, activation)
                                : LinearNode::forward(rows, matrix, bias, activation);
  return restore_leading_dims(y, x);
}

}  // namespace lowrank::effective
