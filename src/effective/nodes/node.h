#pragma once

#include <torch/csrc/autograd/function.h>
#include <torch/csrc/autograd/functions/utils.h>
#include <torch/csrc/autograd/saved_variable.h>

#include <memory>
#include <mutex>

#include "kernels/activation.h"

/// Autograd nodes of layers, written by hand. (torch::autograd::Function adds a map of saved values
/// and wrapped outputs, which cost more than a small layer.)
namespace lowrank::effective {

using torch::autograd::SavedVariable;
using torch::autograd::variable_list;

/// Makes a node whose gradients go to `inputs`, in the order in which it returns them. An undefined
/// input gets none.
template <class Node, class... Inputs>
std::shared_ptr<Node> node_after(const Inputs&... inputs) {
  auto node = std::shared_ptr<Node>(new Node(), torch::autograd::deleteNode);
  node->set_next_edges(torch::autograd::collect_next_edges(inputs...));
  return node;
}

/// What a node has to save of its activation for the backward pass.
class SavedActivation {
 public:
  /// Saves what is needed of the node's output y. Call it once y has its history.
  void save(kernels::Activation activation, const at::Tensor& y) {
    if (activation == kernels::Activation::kRelu) y_ = SavedVariable(y, /*is_output=*/true);
    activation_ = activation;
  }
  /// The gradient of the activation's input, from that of its output.
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
