#include "adapter/effective/adapted_linear.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <c10/core/impl/LocalDispatchKeySet.h>
#include <torch/csrc/autograd/custom_function.h>

#include "kernels/lora_linear.h"

namespace lowrank::effective {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

/// Stands for "no bias": autograd's nodes take no undefined tensors.
const at::Tensor& no_bias() {
  static const at::Tensor none = at::empty({0});
  return none;
}

/// One autograd node for the whole layer; x is (N, in), bias may be no_bias().
struct LoraLinearNode : torch::autograd::Function<LoraLinearNode> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, const at::Tensor& weight,
                            const at::Tensor& a, const at::Tensor& b, const at::Tensor& bias,
                            double scaling) {
    auto [y, down] = kernels::lora_linear_forward(
        x, weight, bias.is_same(no_bias()) ? at::Tensor() : bias, a, b, scaling);
    context->save_for_backward({x, down, weight, a, b});
    context->saved_data["scaling"] = scaling;
    return y;
  }

  static variable_list backward(AutogradContext* context, const variable_list& output_gradients) {
    const auto saved = context->get_saved_variables();
    const auto &x = saved[0], &weight = saved[2], &a = saved[3], &b = saved[4];
    // Under create_graph the gradient is differentiated again, so x·Aᵀ must have a history.
    const auto down = at::GradMode::is_enabled() ? at::mm(x.to(a.scalar_type()), a.t()) : saved[1];
    const kernels::LoraLinearWanted wanted = {
        .x = context->needs_input_grad(0),
        .a = context->needs_input_grad(2),
        .b = context->needs_input_grad(3),
        .bias = context->needs_input_grad(4),
    };
    auto gradients =
        kernels::lora_linear_backward(output_gradients[0], x, down, weight, a, b,
                                      context->saved_data["scaling"].toDouble(), wanted);
    return {gradients.x, {}, gradients.a, gradients.b, gradients.bias, {}};
  }
};

/// The same by LibTorch's own operators: what autocast must see one by one, and what
/// differentiates by W too.
at::Tensor composed(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                    const Factors& factors) {
  const auto y = at::linear(x, weight, bias);
  const auto up = at::linear(at::linear(x.to(factors.a.scalar_type()), factors.a), factors.b);
  return (y + factors.scaling * up).to(y.scalar_type());
}

bool autocast_is_on(const at::Tensor& x) {
  const auto key = x.is_cuda() ? c10::DispatchKey::AutocastCUDA : c10::DispatchKey::AutocastCPU;
  return !c10::impl::tls_is_dispatch_key_excluded(key);
}

bool needs_graph(const at::Tensor& x, const at::Tensor& bias, const Factors& factors) {
  return at::GradMode::is_enabled() &&
         (x.requires_grad() || factors.a.requires_grad() || factors.b.requires_grad() ||
          (bias.defined() && bias.requires_grad()));
}

}  // namespace

at::Tensor adapted_linear(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                          const Factors& factors) {
  factors.fast_calls.fetch_add(1, std::memory_order_relaxed);
  if (weight.requires_grad() || autocast_is_on(x)) return composed(x, weight, bias, factors);
  const auto rows = x.dim() == 2 ? x : x.reshape({-1, x.size(-1)});
  const auto y =
      needs_graph(x, bias, factors)
          ? LoraLinearNode::apply(rows, weight, factors.a, factors.b,
                                  bias.defined() ? bias : no_bias(), factors.scaling)
          : kernels::lora_linear_forward(rows, weight, bias, factors.a, factors.b, factors.scaling)
                .y;
  if (x.dim() == 2) return y;
  auto shape = x.sizes().vec();
  shape.back() = weight.size(0);
  return y.view(shape);
}

}  // namespace lowrank::effective
