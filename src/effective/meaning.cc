#include "effective/meaning.h"

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <lowrank/error.h>

#include "effective/dora.h"

namespace lowrank::effective {
namespace {

/// B·A as the matrix M (out, in), for factors of any number of dimensions.
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

/// The tensor itself, or what an adapter puts in its place.
at::Tensor base_of(const at::Tensor& weight, const Meaning& meaning) {
  if (!meaning.replacement.defined()) return weight;
  const auto replacement = on_device_of(meaning.replacement, weight);
  if (!meaning.rows.defined()) return replacement;
  return weight.index_copy(0, on_device_of(meaning.rows, weight),
                           replacement.to(weight.scalar_type()));
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
        "a call that needs one dense weight", "Such an adapter cannot be merged.");
  }
  auto delta = are_experts(site.kind) ? product_by_expert(term.b, term.a, shape[0])
                                      : product(term.b, term.a);
  if (term.minus_a.defined()) delta = delta - product(term.minus_b, term.minus_a);
  if (term.scaling != 1) delta = delta * term.scaling;
  if (is_stored_transposed(site.kind)) return delta.t();
  if (site.kind == LayerKind::kTransposedExperts) return delta.transpose(1, 2);
  return delta.view(shape);
}

at::Tensor effective_weight(const at::Tensor& weight, const Site& site, const Meaning& meaning) {
  auto sum = base_of(weight, meaning);
  for (const auto& term : meaning.terms) {
    sum = sum + (term.magnitude.defined()
                     ? dora_weight(weight, site, term) - weight
                     : on_device_of(low_rank_delta(term, site, weight.sizes()), weight));
  }
  return sum.to(weight.scalar_type());
}

}  // namespace lowrank::effective
