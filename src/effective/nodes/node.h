#pragma once

#include <torch/csrc/autograd/function.h>
#include <torch/csrc/autograd/functions/utils.h>
#include <torch/csrc/autograd/saved_variable.h>

#include <memory>
#include <mutex>

#include "kernels/activation.h"

/// A layer's node in autograd's graph, made by hand. (What torch::autograd::Function adds, a map of
/// saved values and wrapped outputs, costs more than a small layer.)
namespace lowrank::effective {

using torch::autograd::SavedVariable;
using torch::autograd::variable_list;

/// `inputs` are what gradients go to, in the order in which the node returns them; an undefined one
/// gets none.
template <class Node, class... Inputs>
std::shared_ptr<Node> node_after(const Inputs&... inputs) {
  auto node = std::shared_ptr<Node>(new Node(), torch::autograd::deleteNode);
  node->set_next_edges(torch::autograd::collect_next_edges(inputs...));
  return node;
}

/// What a node whose output goes through an activation keeps of it.
class Activated {
 public:
  /// Of the node's output y, once that has its history.
  void save(kernels::Activation activation, const at::Tensor& y) {
    if (activation == kernels::Activation::kRelu) y_ = SavedVariable(y, /*is_output=*/true);
    activation_ = activation;
  }
  /// The gradient before the activation from the one behind it.
  at::Tensor gradient(const at::Tensor& dy, std::shared_ptr<torch::autograd::Node> node) const {
    if (activation_ == kernels::Activation::kNone) return dy;
    return kernels::relu_gradient(dy, y_.unpack(std::move(node)));
  }
  void reset() { y_.reset_data(); }

 private:
  kernels::Activation activation_ = kernels::Activation::kNone;
  SavedVariable y_;
};

}  // namespace lowrank::effective
