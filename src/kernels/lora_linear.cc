#include "kernels/lora_linear.h"

#include <ATen/ATen.h>

namespace lowrank::kernels {

LoraLinearOutput lora_linear_forward(const at::Tensor& x, const at::Tensor& weight,
                                     const at::Tensor& bias, const at::Tensor& a,
                                     const at::Tensor& b, double scaling) {
  auto y = bias.defined() ? at::addmm(bias, x, weight.t()) : at::mm(x, weight.t());
  auto down = at::mm(x.to(a.scalar_type()), a.t());
  if (y.scalar_type() == b.scalar_type()) {
    y.addmm_(down, b.t(), /*beta=*/1, /*alpha=*/scaling);
  } else {
    y = (y + scaling * at::mm(down, b.t())).to(y.scalar_type());
  }
  return {y, down};
}

LoraLinearGradients lora_linear_backward(const at::Tensor& dy, const at::Tensor& x,
                                         const at::Tensor& down, const at::Tensor& weight,
                                         const at::Tensor& a, const at::Tensor& b, double scaling,
                                         LoraLinearWanted wanted) {
  LoraLinearGradients gradients;
  const auto dy_factors = dy.to(b.scalar_type());
  at::Tensor dy_down;  // (N, rank): s·dy·B
  if (wanted.x || wanted.a) dy_down = at::mm(dy_factors, b).mul_(scaling);
  if (wanted.b) gradients.b = at::mm(dy_factors.t(), down).mul_(scaling);
  if (wanted.a) gradients.a = at::mm(dy_down.t(), x.to(a.scalar_type()));
  if (wanted.bias) gradients.bias = dy.sum(0);
  if (!wanted.x) return gradients;
  gradients.x = at::mm(dy, weight);
  if (gradients.x.scalar_type() == a.scalar_type()) {
    gradients.x.addmm_(dy_down, a);
  } else {
    gradients.x = (gradients.x + at::mm(dy_down, a)).to(gradients.x.scalar_type());
  }
  return gradients;
}

}  // namespace lowrank::kernels
