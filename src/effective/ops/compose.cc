#include "effective/ops/compose.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <fmt/format.h>
#include <lowrank/error.h>

#include <algorithm>

namespace lowrank::effective {
namespace {

std::optional<Use> use_at(const Binding* binding) {
  if (binding == nullptr) return std::nullopt;
  const auto* site = binding->site.get();
  return Use{site, site->board->selection()};
}

/// (x·Aᵀ)·Bᵀ in the factors' dtype.
at::Tensor low(const at::Tensor& x, const at::Tensor& a, const at::Tensor& b, const Layer& layer) {
  const bool is_index = !x.is_floating_point();
  const auto input = is_index ? x : x.to(a.scalar_type());
  return layer.low(input, on_device_of(a, x), on_device_of(b, x));
}

/// What one term adds to the layer's output for x. Where B₀·A₀ is taken off the base, the base that
/// DoRA scales is what remains of it.
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

at::Tensor sum_of_additions(at::Tensor sum, const at::Tensor& x, const at::Tensor& weight,
                            const Meaning& meaning, const Site& site, const Layer& layer) {
  for (const auto& term : meaning.terms) {
    const auto added = addition(x, weight, term, site, layer);
    sum = sum.defined() ? sum + added : added;
  }
  return sum;
}

/// What the bias means to one part of a mixed batch, less its base.
at::Tensor bias_addition(const OptionalTensor& bias, const Selection& part, const Layer& layer) {
  if (!bias || !is_marked(*bias)) return {};
  const auto* binding = find(*bias);
  if (binding == nullptr || part.of(*binding->site).is_base()) return {};
  const auto base = without_mark(*bias);
  return layer.by_output(dense(base, *binding->site, part.of(*binding->site)) - base);
}

void require_rows(const at::Tensor& x, const Use& use) {
  const auto rows = use.selection->batch_rows;
  if (x.dim() >= 1 && x.size(0) == rows) return;
  fail<TensorError>("mixed batch",
                    fmt::format("the input of \"{}\" must have the batch's {} rows in its first "
                                "dimension",
                                use.site->path, rows),
                    x.dim() == 0 ? std::string("a scalar") : std::to_string(x.size(0)));
}

/// What another weight gives for some rows, less what the layer's own gives.
at::Tensor replacement_addition(const at::Tensor& x, const at::Tensor& weight, const Site& site,
                                const Meaning& meaning, const Layer& layer) {
  return layer.base(x, dense(weight, site, meaning)) - layer.base(x, weight);
}

/// Whether no part of a mixed batch has factors for a site.
bool is_without_terms(const Selection& mixed, const Site& site) {
  return mixed.is_mixed() &&
         std::all_of(mixed.parts.begin(), mixed.parts.end(),
                     [&](const auto& part) { return part.selection->of(site).terms.empty(); });
}

at::Tensor indices(const std::vector<int64_t>& rows, const at::Tensor& beside) {
  return at::tensor(rows, at::device(beside.device()).dtype(at::kLong));
}

/// What is added to some rows of an output, put together at the end.
class RowAdditions {
 public:
  void add(const at::Tensor& rows, const at::Tensor& added, const at::Tensor& y) {
    auto shape = y.sizes().vec();
    shape[0] = rows.size(0);
    rows_.push_back(rows);
    additions_.push_back(added.to(y.scalar_type()).expand(shape));
  }
  at::Tensor to(const at::Tensor& y) const {
    return rows_.empty() ? y : y.index_add(0, at::cat(rows_), at::cat(additions_));
  }
  void into(const at::Tensor& y) const {
    if (!rows_.empty()) y.index_add_(0, at::cat(rows_), at::cat(additions_));
  }

 private:
  std::vector<at::Tensor> rows_, additions_;
};

RowAdditions bias_additions(const at::Tensor& y, const at::Tensor& bias, const Use& use) {
  require_rows(y, use);
  const Layer layer = {
      .base = {}, .low = {}, .by_output = [](const auto& vector) { return vector; }};
  RowAdditions additions;
  for (const auto& part : use.selection->parts) {
    const auto added = bias_addition(bias, *part.selection, layer);
    if (added.defined()) additions.add(indices(part.rows, y), added, y);
  }
  return additions;
}

at::Tensor add_parts(const at::Tensor& y, const at::Tensor& x, const at::Tensor& weight,
                     const OptionalTensor& bias, const Use& use, const Layer& layer) {
  require_rows(x, use);
  RowAdditions additions;
  for (const auto& part : use.selection->parts) {
    const auto& site = *use.site;
    const auto& meaning = part.selection->of(site);
    const bool replaced = meaning.replacement.defined();
    const bool done =
        !replaced && (meaning.terms.empty() ||
                      (layer.add_to_rows && layer.add_to_rows(y, x, part.rows, meaning.terms)));
    auto added = bias_addition(bias, *part.selection, layer);
    if (done && !added.defined()) continue;
    const auto rows = indices(part.rows, x);
    const auto x_of_part = done ? at::Tensor() : x.index_select(0, rows);
    if (replaced) {
      const auto change = replacement_addition(x_of_part, weight, site, meaning, layer);
      added = added.defined() ? added + change : change;
    } else if (!done) {
      added = sum_of_additions(added, x_of_part, weight, meaning, site, layer);
    }
    additions.add(rows, added, y);
  }
  return additions.to(y);
}

}  // namespace

std::optional<Use> use_of_matrix(const at::Tensor& weight, Side side) {
  if (!is_marked(weight) || weight.dim() != 2) return std::nullopt;
  const auto* binding = find(weight);
  if (binding == nullptr) return std::nullopt;
  const auto form = binding->site->form;
  const bool lies_as_matrix = form == Form::kMatrix || form == Form::kOther;
  if (!lies_as_matrix && form != Form::kTransposed) return std::nullopt;
  const bool whole = lies_as_matrix == (side == Side::kMatrix);
  const auto& geometry = binding->geometry;
  if (whole ? !geometry.is(weight) : !geometry.is_transpose_of(weight)) return std::nullopt;
  return use_at(binding);
}

std::optional<Use> use_of_whole(const at::Tensor& weight, Form form) {
  if (!is_marked(weight)) return std::nullopt;
  const auto* binding =
      find(weight, form == Form::kEmbedding ? Reader::kEmbedding : Reader::kOther);
  if (binding == nullptr || !binding->geometry.is(weight)) return std::nullopt;
  auto use = use_at(binding);
  const bool fits = use->site->form == form || (use->site->form == Form::kOther &&
                                                is_without_terms(*use->selection, *use->site));
  if (!fits) return std::nullopt;
  return use;
}

void require_trainable(const at::Tensor& weight, const Site& site) {
  if (!weight.is_inference() || !at::GradMode::is_enabled()) return;
  fail<TensorError>("adapter",
                    fmt::format("the weight of \"{}\" must be made outside of inference mode to "
                                "train through it",
                                site.path),
                    "one that was converted or exchanged within",
                    "Convert the model outside of InferenceMode, or use NoGradGuard.");
}

at::Tensor bias_for(const OptionalTensor& bias, const Use& use) {
  if (!bias || !bias->defined()) return {};
  if (!is_marked(*bias)) return *bias;
  return use.selection->is_mixed() ? without_mark(*bias) : resolve(*bias);
}

std::optional<Use> mixed_bias(const at::Tensor& bias) {
  if (!is_marked(bias)) return std::nullopt;
  const auto* binding = find(bias);
  if (binding == nullptr) return std::nullopt;
  auto use = use_at(binding);
  if (!use->selection->is_mixed()) return std::nullopt;
  return use;
}

at::Tensor add_bias_by_row(const at::Tensor& y, const at::Tensor& bias, const Use& use) {
  return bias_additions(y, bias, use).to(y);
}

void add_bias_by_row_(const at::Tensor& y, const at::Tensor& bias, const Use& use) {
  bias_additions(y, bias, use).into(y);
}

at::Tensor add_terms(const at::Tensor& y, const at::Tensor& x, const at::Tensor& weight,
                     const OptionalTensor& bias, const Use& use, const Layer& layer) {
  use.site->factored_reads.fetch_add(1, std::memory_order_relaxed);
  if (use.selection->is_mixed()) return add_parts(y, x, weight, bias, use, layer);
  return sum_of_additions(y, x, weight, use.meaning(), *use.site, layer).to(y.scalar_type());
}

}  // namespace lowrank::effective
