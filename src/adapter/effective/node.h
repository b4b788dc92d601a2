#pragma once

#include <torch/csrc/autograd/function.h>
#include <torch/csrc/autograd/functions/utils.h>
#include <torch/csrc/autograd/saved_variable.h>

#include <memory>
#include <mutex>

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

}  // namespace lowrank::effective
