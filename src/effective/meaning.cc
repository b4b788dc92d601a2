#include "effective/meaning.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <fmt/format.h>
#include <lowrank/error.h>

namespace lowrank::effective {
namespace {

/// B·A as M (out, in), whatever the factors' dimensions are.
at::Tensor product(const at::Tensor& b, const at::Tensor& a) {
  return at::mm(b.flatten(1), a.flatten(1));
}

/// B·A of each expert, (experts, out, in): A's rows are packed expert by expert, B's columns rank
/// by rank (PEFT, tuners/lora/layer.py, ParamWrapper.get_delta_weight).
at::Tensor product_by_expert(const at::Tensor& b, const at::Tensor& a, int64_t experts) {
  const auto of_a = a.reshape({experts, -1, a.size(1)});
  const auto of_b = b.reshape({b.size(0), -1, experts}).permute({2, 0, 1});
  return at::bmm(of_b, of_a);
}

bool are_experts(Form form) { return form == Form::kExperts || form == Form::kTransposedExperts; }

/// The tensor itself, or what an adapter puts in its place.
at::Tensor base_of(const at::Tensor& weight, const Meaning& meaning) {
  if (!meaning.replacement.defined()) return weight;
  const auto replacement = on_device_of(meaning.replacement, weight);
  if (!meaning.rows.defined()) return replacement;
  return weight.index_copy(0, on_device_of(meaning.rows, weight),
                           replacement.to(weight.scalar_type()));
}

/// A vector (out) in the shape that scales the rows of M in the weight's form.
at::Tensor by_output(const at::Tensor& vector, Form form, int64_t dimensions) {
  if (form == Form::kTransposed || form == Form::kEmbedding) return vector;
  std::vector<int64_t> shape(static_cast<size_t>(dimensions), 1);
  shape[0] = -1;
  return vector.reshape(shape);
}

/// The dimensions of a weight that are not the outputs.
std::vector<int64_t> input_dimensions(Form form, int64_t dimensions) {
  if (form == Form::kTransposed || form == Form::kEmbedding) return {0};
  std::vector<int64_t> inputs;
  for (int64_t i = 1; i < dimensions; ++i) inputs.push_back(i);
  return inputs;
}

/// V = W + scaling · (B·A - B₀·A₀).
at::Tensor direction(const at::Tensor& weight, const Site& site, const Term& term) {
  return weight + on_device_of(low_rank_delta(term, site, weight.sizes()), weight);
}

at::Tensor norms_of(const at::Tensor& v, Form form) {
  return at::linalg_vector_norm(v.detach(), 2, input_dimensions(form, v.dim()));
}

}  // namespace

at::Tensor on_device_of(const at::Tensor& factor, const at::Tensor& other) {
  return factor.device() == other.device() ? factor : factor.to(other.device());
}

at::Tensor low_rank_delta(const Term& term, const Site& site, at::IntArrayRef shape) {
  if (!term.a.defined()) return term.b * term.scaling;
  if (site.groups > 1) {
    fail<TensorError>(
        "adapter",
        fmt::format("the factors of the grouped convolution \"{}\" must be applied to "
                    "its input",
                    site.path),
        "a need for one dense weight", "Such an adapter cannot be merged.");
  }
  auto delta = are_experts(site.form) ? product_by_expert(term.b, term.a, shape[0])
                                      : product(term.b, term.a);
  if (term.minus_a.defined()) delta = delta - product(term.minus_b, term.minus_a);
  if (term.scaling != 1) delta = delta * term.scaling;
  if (site.form == Form::kTransposed || site.form == Form::kEmbedding) return delta.t();
  if (site.form == Form::kTransposedExperts) return delta.transpose(1, 2);
  return delta.view(shape);
}

at::Tensor row_norms(const at::Tensor& weight, const Site& site, const Term& term) {
  const at::NoGradGuard no_grad;
  return norms_of(direction(weight, site, term), site.form);
}

at::Tensor magnitude_over_norm(const at::Tensor& weight, const Site& site, const Term& term) {
  return on_device_of(term.magnitude, weight) / row_norms(weight, site, term);
}

at::Tensor dense(const at::Tensor& weight, const Site& site, const Meaning& meaning) {
  auto sum = base_of(weight, meaning);
  for (const auto& term : meaning.terms) {
    if (term.magnitude.defined()) {
      const auto v = direction(weight, site, term);
      const auto scale = on_device_of(term.magnitude, v) / norms_of(v, site.form);
      sum = sum + (by_output(scale, site.form, v.dim()) * v - weight);
    } else {
      sum = sum + on_device_of(low_rank_delta(term, site, weight.sizes()), weight);
    }
  }
  return sum.to(weight.scalar_type());
}

}  // namespace lowrank::effective
