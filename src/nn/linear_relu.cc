#include <ATen/ATen.h>
#include <lowrank/nn/linear_relu.h>

#include "effective/ops/linear.h"

namespace lowrank::nn {

at::Tensor linear_relu(torch::nn::LinearImpl& layer, const at::Tensor& x) {
  const auto y = effective::try_linear_relu(x, layer.weight, layer.bias);
  return y.defined() ? y : at::relu(layer.forward(x));
}

}  // namespace lowrank::nn
