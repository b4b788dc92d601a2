#include "effective/ops/factored_output.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <fmt/format.h>
#include <lowrank/error.h>

#include <algorithm>

#include "effective/dora.h"
#include "effective/mark.h"
#include "effective/ops/mixed_batch.h"

namespace lowrank::effective {
namespace {

/// (x·Aᵀ)·Bᵀ in the factors' dtype.
at::Tensor low(const at::Tensor& x, const at::Tensor& a, const at::Tensor& b, const Layer& layer) {
  const bool is_index = !x.is_floating_point();
  const auto input = is_index ? x : x.to(a.scalar_type());
  return layer.low(input, on_device_of(a, x), on_device_of(b, x));
}

/// What one term adds to the layer's output for x. If the term subtracts B₀·A₀ from the base, DoRA
/// scales the base that is left.
at::Tensor addition(const at::Tensor& x, const at::Tensor& weight, const Term& term,
                    const Site& site, const Layer& layer) {
  const auto taken_off = [&](const at::Tensor& input) {
    return low(input, term.minus_a, term.minus_b, layer) * term.scaling;
  };
  const bool drops = term.dropout > 0 && site.trains() && x.is_floating_point();
  const auto kept = drops ? at::dropout(x, term.dropout, /*train=*/true) : x;
  auto added = low(kept, term.a, term.b, layer) * term.scaling;
  if (term.magnitude.defined()) {
    const auto scale = layer.by_output(magnitude_over_norm(weight, site, term));
    auto base = layer.base(kept, weight);
    if (term.minus_a.defined()) base = base - taken_off(kept);
    added = (scale - 1) * base + scale * added;
  }
  return term.minus_a.defined() ? added - taken_off(x) : added;
}

}  // namespace

void require_trainable(const at::Tensor& weight, const Site& site) {
  if (!weight.is_inference() || !at::GradMode::is_enabled()) return;
  fail<TensorError>("adapter",
                    fmt::format("the weight of \"{}\" must be made outside of inference mode to "
                                "train through it",
                                site.path),
                    "one that was converted or replaced in inference mode",
                    "Convert the model outside of InferenceMode, or use NoGradGuard.");
}

at::Tensor layer_bias(const OptionalTensor& bias, const WeightReading& reading) {
  if (!bias || !bias->defined()) return {};
  return reading.is_mixed() ? stored_weight(*bias) : effective_value(*bias);
}

bool reads_weight(const WeightReading& reading) {
  const auto reads = [](const Meaning& meaning) {
    return meaning.replacement.defined() ||
           std::any_of(meaning.terms.begin(), meaning.terms.end(),
                       [](const Term& term) { return term.magnitude.defined(); });
  };
  if (!reading.is_mixed()) return reads(reading.meaning());
  const auto& parts = reading.selection->parts;
  return std::any_of(parts.begin(), parts.end(),
                     [&](const auto& part) { return reads(part.selection->of(*reading.site)); });
}

at::Tensor sum_of_terms(at::Tensor sum, const at::Tensor& x, const at::Tensor& weight,
                        const Meaning& meaning, const Site& site, const Layer& layer) {
  for (const auto& term : meaning.terms) {
    const auto added = addition(x, weight, term, site, layer);
    sum = sum.defined() ? sum + added : added;
  }
  return sum;
}

at::Tensor add_terms(const at::Tensor& y, const at::Tensor& x, const at::Tensor& weight,
                     const OptionalTensor& bias, const WeightReading& reading, const Layer& layer) {
  const auto& site = *reading.site;
  site.factored_reads.fetch_add(1, std::memory_order_relaxed);
  if (reading.is_mixed()) return add_terms_by_row(y, x, weight, bias, reading, layer);
  return sum_of_terms(y, x, weight, reading.meaning(), site, layer).to(y.scalar_type());
}

}  // namespace lowrank::effective
