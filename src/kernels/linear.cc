#include "kernels/linear.h"

#include <ATen/ATen.h>

#include "kernels/input_gradient.h"
#include "kernels/products.h"

namespace lowrank::kernels {

bool is_kernel_ready_linear(const at::Tensor& x, const LayerMatrix& weight,
                            const at::Tensor& bias) {
  const auto& shape = weight.tensor;
  if (!is_kernel_ready_matrix(x) || !is_kernel_ready_matrix(shape) || x.size(1) != shape.size(1)) {
    return false;
  }
  return !bias.defined() ||
         (is_kernel_ready(bias) && bias.dim() == 1 && bias.size(0) == shape.size(0));
}

at::Tensor linear_forward(const at::Tensor& x, const LayerMatrix& weight, const at::Tensor& bias,
                          Activation activation) {
  return product({x, weight.operand().t()}, {}, bias, activation);
}

LinearGradients linear_backward(const at::Tensor& dy, const at::Tensor& x,
                                const LayerMatrix& weight, LinearWanted wanted) {
  LinearGradients gradients;
  if (wanted.x) gradients.x = input_gradient({dy, weight.operand()});
  if (wanted.weight) gradients.weight = product({Operand(dy).t(), x});
  if (wanted.bias) gradients.bias = dy.sum(0);
  return gradients;
}

}  // namespace lowrank::kernels
