#include "kernels/linear.h"

#include <ATen/ATen.h>

#include "kernels/input_gradient.h"
#include "kernels/products.h"

namespace lowrank::kernels {

bool is_kernel_ready_linear(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias) {
  if (!is_kernel_ready_matrix(x) || !is_kernel_ready_matrix(weight) || x.size(1) != weight.size(1))
    return false;
  return !bias.defined() ||
         (is_kernel_ready(bias) && bias.dim() == 1 && bias.size(0) == weight.size(0));
}

at::Tensor linear_forward(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                          Activation activation) {
  return product({x, Operand(weight).t()}, {}, bias, activation);
}

LinearGradients linear_backward(const at::Tensor& dy, const at::Tensor& x, const at::Tensor& weight,
                                LinearWanted wanted) {
  LinearGradients gradients;
  if (wanted.x) gradients.x = input_gradient({dy, weight});
  if (wanted.weight) gradients.weight = product({Operand(dy).t(), x});
  if (wanted.bias) gradients.bias = dy.sum(0);
  return gradients;
}

}  // namespace lowrank::kernels
