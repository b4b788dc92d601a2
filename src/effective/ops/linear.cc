#include "effective/ops/linear.h"

#include <ATen/ATen.h>
#include <c10/core/impl/LocalDispatchKeySet.h>

#include <algorithm>

#include "effective/compact_weight.h"
#include "effective/differentiation.h"
#include "effective/mark.h"
#include "effective/nodes/linear_node.h"
#include "effective/nodes/lora_linear_node.h"
#include "effective/ops/mixed_batch.h"
#include "kernels/lora_rows.h"
#include "kernels/products.h"

namespace lowrank::effective {

using kernels::Activation;

namespace {

/// The single term that lora_linear_node() can compute, or null if there is more to do: DoRA,
/// dropout, several adapters, a mixed batch, an initial product to subtract, a base that is trained
/// itself. Null also under autocast, forward derivatives and tracing, which must see the operators
/// one by one.
const Term* single_term(const at::Tensor& x, const at::Tensor& matrix, const at::Tensor& bias,
                        const WeightReading& reading) {
  if (reading.is_mixed() || reading.meaning().terms.size() != 1) return nullptr;
  const auto& term = reading.meaning().terms.front();
  const bool factors_alone = !term.magnitude.defined() && !term.minus_a.defined() &&
                             !(term.dropout > 0 && reading.site->trains());
  const auto autocast =
      x.is_cuda() ? c10::DispatchKey::AutocastCUDA : c10::DispatchKey::AutocastCPU;
  const bool usable = !matrix.requires_grad() && !is_traced() &&
                      c10::impl::tls_is_dispatch_key_excluded(autocast) &&
                      term.a.device() == x.device() && !has_tangent(x) && !has_tangent(matrix) &&
                      !has_tangent(bias) && !has_tangent(term.a) && !has_tangent(term.b);
  return factors_alone && usable ? &term : nullptr;
}

bool has_kernel(const at::Tensor& x, const at::Tensor& matrix, const Term& term) {
  return kernels::is_kernel_ready(x) && kernels::is_kernel_ready(matrix) &&
         kernels::is_kernel_ready(term.a) && kernels::is_kernel_ready(term.b);
}

at::Tensor in_one_node(const at::Tensor& x, const at::Tensor& matrix, const at::Tensor& bias,
                       const Term& term, const WeightReading& reading, Activation activation) {
  reading.site->factored_reads.fetch_add(1, std::memory_order_relaxed);
  return lora_linear_node(x, matrix, bias, term, activation);
}

/// For up to this many input vectors of one part of a mixed batch, calling a matrix product costs
/// more than its arithmetic.
constexpr int64_t kFewVectors = 16;

bool is_kernel_ready_memory(const at::Tensor& tensor) {
  return kernels::is_kernel_ready(tensor) && tensor.is_contiguous() && !is_differentiated(tensor);
}

kernels::LoraFactors factors_of(const Term& term) {
  return {.a = term.a.data_ptr<float>(),
          .b = term.b.data_ptr<float>(),
          .in = term.a.size(1),
          .out = term.b.size(0),
          .rank = term.a.size(0),
          .scaling = static_cast<float>(term.scaling)};
}

/// Layer::add_to_rows of a linear layer, x (N, ..., in), without an autograd history: for a few
/// rows that the kernels can read in place.
bool add_to_rows(const at::Tensor& y, const at::Tensor& x, const std::vector<int64_t>& rows,
                 const std::vector<Term>& terms, const Site& site) {
  const auto is_ready = [&](const Term& term) {
    return !term.magnitude.defined() && !term.minus_a.defined() &&
           !(term.dropout > 0 && site.trains()) && is_kernel_ready_memory(term.a) &&
           is_kernel_ready_memory(term.b);
  };
  if (!is_kernel_ready_memory(y) || !is_kernel_ready_memory(x) || x.dim() < 2 || x.numel() == 0 ||
      !std::all_of(terms.begin(), terms.end(), is_ready)) {
    return false;
  }
  const auto vectors = x.numel() / (x.size(0) * x.size(-1));  // in one row of the batch
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

/// y = x·Mᵀ + bias + s·(x·Aᵀ)·Bᵀ under autograd, in factored form. `x` is (..., in), `matrix` (out,
/// in) and not marked, `bias` (out), possibly marked, or none; the result is (..., out). Gradients
/// flow to x, the factors and the bias (and to W if it requires one); double backward works.
at::Tensor factored_linear(const at::Tensor& x, const at::Tensor& matrix,
                           const OptionalTensor& bias, const WeightReading& reading) {
  const auto& site = *reading.site;
  require_trainable(matrix, site);
  const auto own_bias = layer_bias(bias, reading);
  if (const auto* term = single_term(x, matrix, own_bias, reading)) {
    return in_one_node(x, matrix, own_bias, *term, reading, Activation::kNone);
  }
  const bool transposed = is_stored_transposed(site.kind);
  auto base = try_linear_node(x, matrix, own_bias, reading.accelerated);
  const bool is_read = reading.compact != nullptr && (!base.defined() || reads_weight(reading));
  const auto m = is_read ? layer_matrix(matrix).dense() : matrix;
  if (!base.defined()) base = at::linear(x, m, own_bias);
  const auto weight = transposed ? m.t() : m;
  const Layer layer = {
      .base = [&](const at::Tensor& input,
                  const at::Tensor& w) { return at::linear(input, transposed ? w.t() : w); },
      .low = [](const at::Tensor& input, const at::Tensor& a,
                const at::Tensor& b) { return at::linear(at::linear(input, a), b); },
      .by_output = [](const at::Tensor& vector) { return vector; },
      .add_to_rows =
          [&](const at::Tensor& y, const at::Tensor& input, const std::vector<int64_t>& rows,
              const std::vector<Term>& terms) { return add_to_rows(y, input, rows, terms, site); },
  };
  return add_terms(base, x, weight, bias, reading, layer);
}

/// One product x·Mᵀ (+ bias) with a marked weight.
struct Product {
  const at::Tensor& x;
  const at::Tensor& weight;
  Role role;               ///< kMatrix: `weight` is M; kTranspose: Mᵀ
  const at::Tensor* bias;  ///< null where there is none

  OptionalTensor optional_bias() const { return bias ? OptionalTensor(*bias) : OptionalTensor(); }
};

/// Returns whether autograd or another marked tensor takes part in the product.
bool needs_operators(const Product& product) {
  const auto of = [](const at::Tensor& tensor) {
    return is_marked(tensor) || is_differentiated(tensor);
  };
  return of(product.x) || is_differentiated(product.weight) || (product.bias && of(*product.bias));
}

template <class IsLayer>
at::Tensor try_accelerated(const Product& product, const at::Tensor& bias,
                           const WeightReading& reading, const IsLayer& is_layer) {
  if (reading.computation != Computation::kAccelerated || !is_layer()) return {};
  return try_linear_node(product.x, matrix_of(product.weight, product.role), bias,
                         reading.accelerated);
}

/// Computes a product as read_weight() says. `stored` continues the operator's call below the mark
/// and below autograd; `operate` calls the operator again with an x, a weight and a bias that carry
/// no mark. `is_layer` returns whether y is just the product plus the bias. What comes first is all
/// that a disabled adapter costs.
template <class Stored, class Operate, class IsLayer>
at::Tensor compute(const Product& product, const Stored& stored, const Operate& operate,
                   const IsLayer& is_layer) {
  const auto& [x, weight, role, bias] = product;
  const auto reading = read_weight(weight, role);
  if (reading.is_base() && !reading.is_observed && !needs_operators(product)) {
    if (reading.computation == Computation::kStored) return stored();
    const auto y = try_accelerated(product, bias ? *bias : at::Tensor(), reading, is_layer);
    if (y.defined()) return y;
    if (reading.compact == nullptr) return stored();
  }
  if (is_marked(x)) return operate(effective_value(x), weight, product.optional_bias());
  const bool layer = is_layer();
  if (reading.computation == Computation::kFactored && x.dim() >= 1 && layer) {
    return factored_linear(x, matrix_of(weight, role), product.optional_bias(), reading);
  }
  if (reading.is_observed && layer) reading.meaning().observe(x);
  const auto by_row = bias && layer ? read_mixed_bias(*bias) : std::nullopt;
  const auto own_bias = !bias    ? at::Tensor()
                        : by_row ? stored_weight(*bias)
                                 : effective_value(*bias);
  auto y = try_accelerated(product, own_bias, reading, is_layer);
  if (!y.defined()) {
    // This operator cannot apply the site's factors, so it reads the weight as a dense value.
    const auto value = reading.computation == Computation::kFactored
                           ? effective_value(weight)
                           : effective_value(weight, reading);
    y = operate(x, value, bias ? OptionalTensor(own_bias) : OptionalTensor());
  }
  return by_row ? add_bias_by_row(y, *bias, *by_row) : y;
}

bool always_layer() { return true; }

/// Continues an operator's call below the mark and below autograd.
template <class Operator, class... Args>
at::Tensor on_stored(c10::DispatchKeySet keys, const Args&... args) {
  constexpr auto skipped = kAutograd | c10::DispatchKeySet(kMark);
  const c10::impl::ExcludeDispatchKeyGuard below(skipped);
  return Operator::redispatch(keys - skipped, args...);
}

}  // namespace

at::Tensor t(c10::DispatchKeySet keys, const at::Tensor& weight) {
  const c10::impl::ExcludeDispatchKeyGuard below(kMark);
  return at::_ops::t::redispatch(keys & c10::DispatchKeySet(c10::DispatchKeySet::FULL_AFTER, kMark),
                                 weight);
}

at::Tensor linear(c10::DispatchKeySet keys, const at::Tensor& x, const at::Tensor& weight,
                  const OptionalTensor& bias) {
  return compute(
      {.x = x, .weight = weight, .role = Role::kMatrix, .bias = bias ? &*bias : nullptr},
      [&] { return on_stored<at::_ops::linear>(keys, x, weight, bias); },
      [](const at::Tensor& input, const at::Tensor& w, const OptionalTensor& b) {
        return at::linear(input, w, b);
      },
      always_layer);
}

at::Tensor matmul(c10::DispatchKeySet keys, const at::Tensor& x, const at::Tensor& weight_t) {
  return compute(
      {.x = x, .weight = weight_t, .role = Role::kTranspose, .bias = nullptr},
      [&] { return on_stored<at::_ops::matmul>(keys, x, weight_t); },
      [](const at::Tensor& input, const at::Tensor& w, const OptionalTensor& /*none*/) {
        return at::matmul(input, w);
      },
      always_layer);
}

at::Tensor mm(c10::DispatchKeySet keys, const at::Tensor& x, const at::Tensor& weight_t) {
  return compute(
      {.x = x, .weight = weight_t, .role = Role::kTranspose, .bias = nullptr},
      [&] { return on_stored<at::_ops::mm>(keys, x, weight_t); },
      [](const at::Tensor& input, const at::Tensor& w, const OptionalTensor& /*none*/) {
        return at::mm(input, w);
      },
      always_layer);
}

at::Tensor addmm(c10::DispatchKeySet keys, const at::Tensor& bias, const at::Tensor& x,
                 const at::Tensor& weight_t, const at::Scalar& beta, const at::Scalar& alpha) {
  return compute(
      {.x = x, .weight = weight_t, .role = Role::kTranspose, .bias = &bias},
      [&] { return on_stored<at::_ops::addmm>(keys, bias, x, weight_t, beta, alpha); },
      [&](const at::Tensor& input, const at::Tensor& w, const OptionalTensor& b) {
        return at::addmm(*b, input, w, beta, alpha);
      },
      [&] {
        return bias.dim() == 1 && weight_t.dim() == 2 && bias.size(0) == weight_t.size(1) &&
               beta.equal(1) && alpha.equal(1);
      });
}

at::Tensor try_linear_relu(const at::Tensor& x, const at::Tensor& weight,
                           const OptionalTensor& bias) {
  if (!is_marked(weight) || is_marked(x) || x.dim() < 1) return {};
  const auto reading = read_weight(weight, Role::kMatrix);
  if (reading.computation == Computation::kFactored) {
    const auto matrix = without_mark(weight);
    require_trainable(matrix, *reading.site);
    const auto own_bias = layer_bias(bias, reading);
    const auto* term = single_term(x, matrix, own_bias, reading);
    if (term == nullptr || !has_kernel(x, matrix, *term)) return {};
    return in_one_node(x, matrix, own_bias, *term, reading, Activation::kRelu);
  }
  const auto own_bias = bias ? *bias : at::Tensor();
  if (reading.computation != Computation::kAccelerated || reading.is_observed ||
      is_marked(own_bias)) {
    return {};
  }
  return try_linear_node(x, without_mark(weight), own_bias, reading.accelerated, Activation::kRelu);
}

}  // namespace lowrank::effective
