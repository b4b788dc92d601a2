#include "effective/nodes/lora_linear_node.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <optional>

#include "effective/compact_weight.h"
#include "effective/differentiation.h"
#include "effective/nodes/node.h"
#include "effective/nodes/rows.h"
#include "kernels/lora_linear.h"

namespace lowrank::effective {

using kernels::Activation;

namespace {

/// The autograd node of the whole layer; x is (N, in), bias may be undefined.
struct LoraLinearNode : torch::autograd::Node {
  SavedVariable x, weight, a, b;
  SavedVariable down;        // (N, rank): x·Aᵀ
  bool down_varies = false;  // whether x or A is differentiated
  double scaling = 1;
  SavedActivation activated;

  static at::Tensor call(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                         const Term& term, Activation activation) {
    const auto node = node_after<LoraLinearNode>(x, term.a, term.b, bias);
    auto [y, down] = forward(x, weight, bias, term, activation);
    node->save(x, weight, term, down);
    set_history(y, node);
    node->activated.save(activation, y);
    return y;
  }

  /// Saves only what the wanted gradients need: anything else may be written to.
  void save(const at::Tensor& x_, const at::Tensor& weight_, const Term& term,
            const at::Tensor& down_) {
    const bool of_x = should_compute_output(0), of_a = should_compute_output(1),
               of_b = should_compute_output(2);
    scaling = term.scaling;
    down_varies = of_x || of_a;
    if (of_a || (of_b && of_x)) x = SavedVariable(x_, /*is_output=*/false);
    if (of_x) weight = SavedVariable(weight_, false);
    if (of_x || (of_b && of_a)) a = SavedVariable(term.a, false);
    if (of_x || of_a) b = SavedVariable(term.b, false);
    if (of_b) down = SavedVariable(down_, false);
  }

  static kernels::LoraLinearOutput forward(const at::Tensor& x, const at::Tensor& weight,
                                           const at::Tensor& bias, const Term& term,
                                           Activation activation) {
    const BelowAutograd below;
    return kernels::lora_linear_forward(x, layer_matrix(weight), bias, term.a, term.b, term.scaling,
                                        activation);
  }

  variable_list apply(variable_list&& gradients) override {
    const std::lock_guard lock(mutex_);
    if (!gradients[0].defined()) return variable_list(num_outputs());
    const auto dy = activated.gradient(gradients[0], shared_from_this());
    const kernels::LoraLinearWanted wanted = {.x = task_should_compute_output(0),
                                              .a = task_should_compute_output(1),
                                              .b = task_should_compute_output(2),
                                              .bias = task_should_compute_output(3)};
    const auto x_ = x.unpack(), weight_ = weight.unpack(), a_ = a.unpack(), b_ = b.unpack();
    auto down_ = down.unpack();
    // Under create_graph the gradient is differentiated again, so x·Aᵀ must have a history.
    const bool again = at::GradMode::is_enabled();
    if (again && wanted.b && down_varies) down_ = at::mm(x_.to(a_.scalar_type()), a_.t());
    std::optional<BelowAutograd> below;
    if (!again) below.emplace();
    auto found = kernels::lora_linear_backward(dy, x_, down_, layer_matrix(weight_), a_, b_,
                                               scaling, wanted);
    return {found.x, found.a, found.b, found.bias};
  }

  void release_variables() override {
    const std::lock_guard lock(mutex_);
    for (auto* saved : {&x, &weight, &a, &b, &down}) saved->reset_data();
    activated.reset();
  }

  std::string name() const override { return "LoraLinearBackward"; }
};

}  // namespace

at::Tensor lora_linear_node(const at::Tensor& x, const at::Tensor& matrix, const at::Tensor& bias,
                            const Term& term, Activation activation) {
  const auto rows = rows_of(x);
  const bool differentiated = is_differentiated(x) || is_differentiated(bias) ||
                              is_differentiated(term.a) || is_differentiated(term.b);
  const auto y = differentiated ? LoraLinearNode::call(rows, matrix, bias, term, activation)
                                : LoraLinearNode::forward(rows, matrix, bias, term, activation).y;
  return restore_leading_dims(y, x);
}

}  // namespace lowrank::effective
