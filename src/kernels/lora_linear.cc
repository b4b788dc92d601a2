#include "kernels/lora_linear.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>

#include "kernels/input_gradient.h"
#include "kernels/linear.h"
#include "kernels/products.h"

namespace lowrank::kernels {
namespace {

/// Returns whether these are factors of this matrix that the kernels can read.
bool are_kernel_ready_factors(const at::Tensor& weight, const at::Tensor& a, const at::Tensor& b) {
  return is_kernel_ready_matrix(a) && is_kernel_ready_matrix(b) && a.size(1) == weight.size(1) &&
         b.size(0) == weight.size(0) && a.size(0) == b.size(1);
}

/// The forward pass by LibTorch's operators, for any dtype and device.
LoraLinearOutput forward_by_operators(const at::Tensor& x, const at::Tensor& weight,
                                      const at::Tensor& bias, const at::Tensor& a,
                                      const at::Tensor& b, double scaling, Activation activation) {
  auto y = bias.defined() ? at::addmm(bias, x, weight.t()) : at::mm(x, weight.t());
  auto down = at::mm(x.to(a.scalar_type()), a.t());
  if (y.scalar_type() == b.scalar_type()) {
    y.addmm_(down, b.t(), /*beta=*/1, /*alpha=*/scaling);
  } else {
    y = (y + scaling * at::mm(down, b.t())).to(y.scalar_type());
  }
  if (activation == Activation::kRelu) y.relu_();
  return {y, down};
}

LoraLinearGradients backward_by_operators(const at::Tensor& dy, const at::Tensor& x,
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

/// dyᵀ·down, (out, rank). If the rows of `down` do not fill a register, the transpose of the result
/// is computed, which reads `down` by columns.
at::Tensor outer_product(const at::Tensor& dy, const at::Tensor& down) {
  constexpr int64_t kShortRow = 16;
  if (down.size(1) >= kShortRow) return product({Operand(dy).t(), down});
  return transposed_product({Operand(down).t(), dy});
}

at::Tensor scaled(const at::Tensor& tensor, double scaling) {
  return scaling == 1 ? tensor : at::mul(tensor, scaling);
}

}  // namespace

LoraLinearOutput lora_linear_forward(const at::Tensor& x, const LayerMatrix& weight,
                                     const at::Tensor& bias, const at::Tensor& a,
                                     const at::Tensor& b, double scaling, Activation activation) {
  if (!is_kernel_ready_linear(x, weight, bias) || !are_kernel_ready_factors(weight.tensor, a, b)) {
    return forward_by_operators(x, weight.dense(), bias, a, b, scaling, activation);
  }
  const auto down = product({x, Operand(a).t()});
  const auto scaled_down = scaled(down, scaling);
  return {product({x, weight.operand().t()}, {scaled_down, Operand(b).t()}, bias, activation),
          down};
}

LoraLinearGradients lora_linear_backward(const at::Tensor& dy, const at::Tensor& x,
                                         const at::Tensor& down, const LayerMatrix& weight,
                                         const at::Tensor& a, const at::Tensor& b, double scaling,
                                         LoraLinearWanted wanted) {
  const auto is_kernel_ready_or_undefined = [](const at::Tensor* tensor) {
    return !tensor->defined() || is_kernel_ready_matrix(*tensor);
  };
  const auto all = {&dy, &x, &down, &weight.tensor, &a, &b};
  // Under create_graph the gradients are differentiated again, which only LibTorch's operators
  // allow.
  if (at::GradMode::is_enabled() ||
      !std::all_of(all.begin(), all.end(), is_kernel_ready_or_undefined)) {
    return backward_by_operators(dy, x, down, weight.dense(), a, b, scaling, wanted);
  }
  LoraLinearGradients gradients;
  at::Tensor dy_down;  // (N, rank): s·dy·B
  if (wanted.x || wanted.a) dy_down = scaled(product({dy, b}), scaling);
  if (wanted.b) gradients.b = outer_product(dy, scaled(down, scaling));
  if (wanted.a) gradients.a = product({Operand(dy_down).t(), x});
  if (wanted.bias) gradients.bias = dy.sum(0);
  if (wanted.x) gradients.x = input_gradient({dy, weight.operand()}, {dy_down, a});
  return gradients;
}

}  // namespace lowrank::kernels
