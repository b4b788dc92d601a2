#pragma once

#include <torch/nn/module.h>
#include <torch/nn/modules/linear.h>
#include <torch/nn/pimpl.h>

#include <cstdint>
#include <vector>

namespace lowrank::app {

struct MlpOptions {
  /// Inputs, hidden layers, outputs: at least two entries, each at least 1.
  std::vector<int64_t> sizes = {784, 1000, 2000, 10};
};

/// A multi-layer perceptron: Linear layers named linear1, linear2, ... with ReLU between them.
/// Its parameters start as PyTorch's nn.Linear draws them from the default generator, in order.
class MlpImpl : public torch::nn::Module {
 public:
  /// Throws ArgumentError for fewer than two sizes or one below 1.
  explicit MlpImpl(MlpOptions options = {});

  /// (N, sizes.front()), or (N, ...) that flattens to it, to logits (N, sizes.back()).
  at::Tensor forward(at::Tensor x);

  const MlpOptions& options() const { return options_; }

 private:
  MlpOptions options_;
  std::vector<torch::nn::Linear> layers_;
};

TORCH_MODULE(Mlp);

}  // namespace lowrank::app
