#include "adapter/effective/adapted_linear.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <c10/core/impl/LocalDispatchKeySet.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <optional>

#include "adapter/effective/differentiation.h"
#include "adapter/effective/fast_linear.h"
#include "kernels/lora_linear.h"
#include "kernels/lora_rows.h"

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
    const auto [y, down] = [&] {
      const BelowAutograd below;
      return kernels::lora_linear_forward(x, weight, bias.is_same(no_bias()) ? at::Tensor() : bias,
                                          a, b, scaling);
    }();
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
    std::optional<BelowAutograd> below;
    if (!at::GradMode::is_enabled()) below.emplace();
    auto gradients =
        kernels::lora_linear_backward(output_gradients[0], x, down, weight, a, b,
                                      context->saved_data["scaling"].toDouble(), wanted);
    return {gradients.x, {}, gradients.a, gradients.b, gradients.bias, {}};
  }
};

/// The one term of a plain adapter, which LoraLinearNode is made for; null where there is more to
/// do: DoRA, dropout, several adapters, a mixed batch, an initial product to take off, a base that
/// is trained itself. Autocast and forward derivatives must see the operators one by one.
const Term* plain_term(const at::Tensor& x, const at::Tensor& matrix, const Use& use) {
  if (use.selection->is_mixed() || use.meaning().terms.size() != 1) return nullptr;
  const auto& term = use.meaning().terms.front();
  const bool plain = !term.magnitude.defined() && !term.minus_a.defined() &&
                     !(term.dropout > 0 && use.site->trains());
  const auto autocast =
      x.is_cuda() ? c10::DispatchKey::AutocastCUDA : c10::DispatchKey::AutocastCPU;
  const bool usable = !matrix.requires_grad() &&
                      c10::impl::tls_is_dispatch_key_excluded(autocast) &&
                      term.a.device() == x.device() && !has_tangent(x) && !has_tangent(term.a) &&
                      !has_tangent(term.b);
  return plain && usable ? &term : nullptr;
}

/// Up to this many inputs of a mixed batch's row a matrix product costs more by its call than by
/// its work.
constexpr int64_t kFewVectors = 16;

bool is_plain_memory(const at::Tensor& tensor) {
  return tensor.is_cpu() && tensor.scalar_type() == at::kFloat && tensor.is_contiguous() &&
         !is_differentiated(tensor);
}

kernels::LoraFactors factors_of(const Term& term) {
  return {.a = term.a.data_ptr<float>(),
          .b = term.b.data_ptr<float>(),
          .in = term.a.size(1),
          .out = term.b.size(0),
          .rank = term.a.size(0),
          .scaling = static_cast<float>(term.scaling)};
}

/// x·Mᵀ + bias + s·(x·Aᵀ)·Bᵀ, x (N, in), that nobody differentiates.
at::Tensor without_history(const at::Tensor& x, const at::Tensor& matrix, const at::Tensor& bias,
                           const Term& term) {
  const BelowAutograd below;
  return kernels::lora_linear_forward(x, matrix, bias, term.a, term.b, term.scaling).y;
}

at::Tensor in_one_node(const at::Tensor& x, const at::Tensor& matrix, const at::Tensor& bias,
                       const Term& term) {
  const auto rows = x.dim() == 2 ? x : x.reshape({-1, x.size(-1)});
  const bool differentiated = is_differentiated(x) || is_differentiated(bias) ||
                              is_differentiated(term.a) || is_differentiated(term.b);
  const auto y = differentiated
                     ? LoraLinearNode::apply(rows, matrix, term.a, term.b,
                                             bias.defined() ? bias : no_bias(), term.scaling)
                     : without_history(rows, matrix, bias, term);
  if (x.dim() == 2) return y;
  auto shape = x.sizes().vec();
  shape.back() = matrix.size(0);
  return y.view(shape);
}

/// Layer::add_to_rows of a linear layer, x (N, ..., in): a few rows of plain memory, of which no
/// history is kept.
bool add_to_rows(const at::Tensor& y, const at::Tensor& x, const std::vector<int64_t>& rows,
                 const std::vector<Term>& terms, const Site& site) {
  const auto is_plain = [&](const Term& term) {
    return !term.magnitude.defined() && !term.minus_a.defined() &&
           !(term.dropout > 0 && site.trains()) && is_plain_memory(term.a) &&
           is_plain_memory(term.b);
  };
  if (!is_plain_memory(y) || !is_plain_memory(x) || x.dim() < 2 || x.numel() == 0 ||
      !std::all_of(terms.begin(), terms.end(), is_plain)) {
    return false;
  }
  const auto vectors = x.numel() / (x.size(0) * x.size(-1));  // of one row of the batch
  if (static_cast<int64_t>(rows.size()) * vectors > kFewVectors) return false;
  std::vector<int64_t> all;
  for (const auto row : rows) {
    for (int64_t i = 0; i < vectors; ++i) all.push_back(row * vectors + i);
  }
  for (const auto& term : terms) {
    kernels::add_lora_rows(y.data_ptr<float>(), x.data_ptr<float>(), all, factors_of(term));
  }
  return true;
}

}  // namespace

at::Tensor adapted_linear(const at::Tensor& x, const at::Tensor& matrix, const OptionalTensor& bias,
                          const Use& use) {
  require_trainable(matrix, *use.site);
  const auto plain_bias = bias_for(bias, use);
  if (const auto* term = plain_term(x, matrix, use)) {
    use.site->factored_reads.fetch_add(1, std::memory_order_relaxed);
    return in_one_node(x, matrix, plain_bias, *term);
  }
  const auto weight = use.site->form == Form::kTransposed ? matrix.t() : matrix;
  const Layer layer = {
      .base =
          [&](const at::Tensor& input, const at::Tensor& w) {
            return at::linear(input, use.site->form == Form::kTransposed ? w.t() : w);
          },
      .low = [](const at::Tensor& input, const at::Tensor& a,
                const at::Tensor& b) { return at::linear(at::linear(input, a), b); },
      .by_output = [](const at::Tensor& vector) { return vector; },
      .add_to_rows =
          [&](const at::Tensor& y, const at::Tensor& input, const std::vector<int64_t>& rows,
              const std::vector<Term>& terms) {
            return add_to_rows(y, input, rows, terms, *use.site);
          },
  };
  auto base = try_fast_linear(x, matrix, plain_bias);
  if (!base.defined()) base = at::linear(x, matrix, plain_bias);
  return add_terms(base, x, weight, bias, use, layer);
}

}  // namespace lowrank::effective
