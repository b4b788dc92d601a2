#include <lowrank/nn/lora_layers.h>
#include <torch/types.h>

#include <cstdio>

// Links every drop-in layer from the installed library; scripts/check_package.sh runs it.
int main() {
  lowrank::nn::Linear linear(torch::nn::LinearOptions(4, 3));
  lowrank::nn::Conv1d line(torch::nn::Conv1dOptions(2, 3, 3));
  lowrank::nn::Conv2d image(torch::nn::Conv2dOptions(2, 4, 3));
  lowrank::nn::Embedding table(torch::nn::EmbeddingOptions(5, 4));
  const auto words = linear->forward(table->forward(torch::tensor({1, 4})));
  const auto signal = line->forward(torch::randn({1, 2, 6}));
  const auto pixels = image->forward(torch::randn({1, 2, 5, 5}));
  std::printf("%ld %ld %ld numbers from drop-in layers\n", static_cast<long>(words.numel()),
              static_cast<long>(signal.numel()), static_cast<long>(pixels.numel()));
  return 0;
}
