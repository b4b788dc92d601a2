#pragma once

#include <torch/nn/module.h>
#include <torch/nn/modules/linear.h>
#include <torch/nn/pimpl.h>

#include <cstdint>
#include <vector>

namespace lowrank::app {

struct MlpOptions {
  /// Sizes of the input, the hidden layers and the output: at least two entries, each at least 1.
  std::vector<int64_t> sizes = {784, 1000, 2000, 10};
};

/// A multi-layer perceptron: Linear layers named linear1, linear2, ... with ReLU between them.
/// Its parameters are drawn from the default generator as PyTorch's nn.Linear does, layer by layer.
class MlpImpl : public torch::nn::Module {
 public:
  /// Throws ArgumentError for fewer than two sizes, or for a size below 1.
  explicit MlpImpl(MlpOptions options = {});

  /// Maps (N, sizes.front()), or (N, ...) that flattens to it, to logits (N, sizes.back()).
  at::Tensor forward(at::Tensor x);

  const MlpOptions& options() const { return options_; }

 private:
  MlpOptions options_;
  std::vector<torch::nn::Linear> layers_;
};

TORCH_MODULE(Mlp);

}  // namespace lowrank::app
