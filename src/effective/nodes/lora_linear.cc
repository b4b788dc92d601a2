#include "effective/nodes/lora_linear.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <c10/core/impl/LocalDispatchKeySet.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "effective/differentiation.h"
#include "effective/nodes/linear.h"
#include "effective/nodes/node.h"
#include "effective/nodes/rows.h"
#include "kernels/lora_linear.h"
#include "kernels/lora_rows.h"
#include "kernels/products.h"

namespace lowrank::effective {

using kernels::Activation;

namespace {

/// The whole layer; x is (N, in), bias may be undefined.
struct LoraLinearNode : torch::autograd::Node {
  SavedVariable x, weight, a, b;
  SavedVariable down;        // (N, rank): x·Aᵀ
  bool down_varies = false;  // with what is differentiated
  double scaling = 1;
  Activated activated;

  static at::Tensor call(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                         const Term& term, Activation activation) {
    const auto node = node_after<LoraLinearNode>(x, term.a, term.b, bias);
    auto [y, down] = forward(x, weight, bias, term, activation);
    node->save(x, weight, term, down);
    set_history(y, node);
    node->activated.save(activation, y);
    return y;
  }

  /// What the gradients that are wanted need, and no more: the rest may be written to.
  void save(const at::Tensor& x_, const at::Tensor& weight_, const Term& term,
            const at::Tensor& down_) {
    const bool of_x = should_compute_output(0), of_a = should_compute_output(1),
               of_b = should_compute_output(2);
    scaling = term.scaling;
    down_varies = of_x || of_a;
    if (of_a || (of_b && of_x)) x = SavedVariable(x_, /*is_output=*/false);
    if (of_x) weight = SavedVariable(weight_, false);
    if (of_x || (of_b && of_a)) a = SavedVariable(term.a, false);
    if (of_x || of_a) b = SavedVariable(term.b, false);
    if (of_b) down = SavedVariable(down_, false);
  }

  static kernels::LoraLinearOutput forward(const at::Tensor& x, const at::Tensor& weight,
                                           const at::Tensor& bias, const Term& term,
                                           Activation activation) {
    const BelowAutograd below;
    return kernels::lora_linear_forward(x, weight, bias, term.a, term.b, term.scaling, activation);
  }

  variable_list apply(variable_list&& gradients) override {
    const std::lock_guard lock(mutex_);
    if (!gradients[0].defined()) return variable_list(num_outputs());
    const auto dy = activated.gradient(gradients[0], shared_from_this());
    const kernels::LoraLinearWanted wanted = {.x = task_should_compute_output(0),
                                              .a = task_should_compute_output(1),
                                              .b = task_should_compute_output(2),
                                              .bias = task_should_compute_output(3)};
    const auto x_ = x.unpack(), weight_ = weight.unpack(), a_ = a.unpack(), b_ = b.unpack();
    auto down_ = down.unpack();
    // Under create_graph the gradient is differentiated again, so x·Aᵀ must have a history.
    const bool again = at::GradMode::is_enabled();
    if (again && wanted.b && down_varies) down_ = at::mm(x_.to(a_.scalar_type()), a_.t());
    std::optional<BelowAutograd> below;
    if (!again) below.emplace();
    auto found = kernels::lora_linear_backward(dy, x_, down_, weight_, a_, b_, scaling, wanted);
    return {found.x, found.a, found.b, found.bias};
  }

  void release_variables() override {
    const std::lock_guard lock(mutex_);
    for (auto* saved : {&x, &weight, &a, &b, &down}) saved->reset_data();
    activated.reset();
  }

  std::string name() const override { return "LoraLinearBackward"; }
};

/// The one term of a plain adapter, which LoraLinearNode is made for; null where there is more to
/// do: DoRA, dropout, several adapters, a mixed batch, an initial product to take off, a base that
/// is trained itself. Autocast, forward derivatives and tracing must see the operators one by one.
const Term* plain_term(const at::Tensor& x, const at::Tensor& matrix, const at::Tensor& bias,
                       const Use& use) {
  if (use.selection->is_mixed() || use.meaning().terms.size() != 1) return nullptr;
  const auto& term = use.meaning().terms.front();
  const bool plain = !term.magnitude.defined() && !term.minus_a.defined() &&
                     !(term.dropout > 0 && use.site->trains());
  const auto autocast =
      x.is_cuda() ? c10::DispatchKey::AutocastCUDA : c10::DispatchKey::AutocastCPU;
  const bool usable = !matrix.requires_grad() && !is_traced() &&
                      c10::impl::tls_is_dispatch_key_excluded(autocast) &&
                      term.a.device() == x.device() && !has_tangent(x) && !has_tangent(matrix) &&
                      !has_tangent(bias) && !has_tangent(term.a) && !has_tangent(term.b);
  return plain && usable ? &term : nullptr;
}

bool has_kernel(const at::Tensor& x, const at::Tensor& matrix, const Term& term) {
  return kernels::is_plain(x) && kernels::is_plain(matrix) && kernels::is_plain(term.a) &&
         kernels::is_plain(term.b);
}

/// Up to this many inputs of a mixed batch's row a matrix product costs more by its call than by
/// its work.
constexpr int64_t kFewVectors = 16;

bool is_plain_memory(const at::Tensor& tensor) {
  return kernels::is_plain(tensor) && tensor.is_contiguous() && !is_differentiated(tensor);
}

kernels::LoraFactors factors_of(const Term& term) {
  return {.a = term.a.data_ptr<float>(),
          .b = term.b.data_ptr<float>(),
          .in = term.a.size(1),
          .out = term.b.size(0),
          .rank = term.a.size(0),
          .scaling = static_cast<float>(term.scaling)};
}

at::Tensor in_one_node(const at::Tensor& x, const at::Tensor& matrix, const at::Tensor& bias,
                       const Term& term, const Use& use, Activation activation) {
  use.site->factored_reads.fetch_add(1, std::memory_order_relaxed);
  const auto rows = rows_of(x);
  const bool differentiated = is_differentiated(x) || is_differentiated(bias) ||
                              is_differentiated(term.a) || is_differentiated(term.b);
  const auto y = differentiated ? LoraLinearNode::call(rows, matrix, bias, term, activation)
                                : LoraLinearNode::forward(rows, matrix, bias, term, activation).y;
  return in_place_of_rows(y, x);
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

at::Tensor try_adapted_linear_relu(const at::Tensor& x, const at::Tensor& matrix,
                                   const OptionalTensor& bias, const Use& use) {
  require_trainable(matrix, *use.site);
  const auto plain_bias = bias_for(bias, use);
  const auto* term = plain_term(x, matrix, plain_bias, use);
  if (term == nullptr || !has_kernel(x, matrix, *term)) return {};
  return in_one_node(x, matrix, plain_bias, *term, use, Activation::kRelu);
}

at::Tensor adapted_linear(const at::Tensor& x, const at::Tensor& matrix, const OptionalTensor& bias,
                          const Use& use) {
  require_trainable(matrix, *use.site);
  const auto plain_bias = bias_for(bias, use);
  if (const auto* term = plain_term(x, matrix, plain_bias, use)) {
    return in_one_node(x, matrix, plain_bias, *term, use, Activation::kNone);
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
