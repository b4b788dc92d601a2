#include "effective/ops/mixed_batch.h"

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <lowrank/error.h>

#include "effective/mark.h"

namespace lowrank::effective {
namespace {

/// What one part of a mixed batch adds to the base bias; undefined if nothing.
at::Tensor bias_addition(const OptionalTensor& bias, const Selection& part, const Layer& layer) {
  if (!bias || !is_marked(*bias)) return {};
  const auto reading = read_weight(*bias, Role::kValue);
  if (reading.site == nullptr || part.of(*reading.site).is_base()) return {};
  const auto base = stored_weight(*bias);
  const auto& site = *reading.site;
  return layer.by_output(effective_weight(base, site, part.of(site)) - base);
}

void require_rows(const at::Tensor& x, const WeightReading& reading) {
  const auto rows = reading.selection->batch_rows;
  if (x.dim() >= 1 && x.size(0) == rows) return;
  fail<TensorError>("mixed batch",
                    fmt::format("the input of \"{}\" must have the batch's {} rows in its first "
                                "dimension",
                                reading.site->path, rows),
                    x.dim() == 0 ? std::string("a scalar") : std::to_string(x.size(0)));
}

/// The change of the output for some rows when another weight replaces the layer's own.
at::Tensor replacement_addition(const at::Tensor& x, const at::Tensor& weight, const Site& site,
                                const Meaning& meaning, const Layer& layer) {
  return layer.base(x, effective_weight(weight, site, meaning)) - layer.base(x, weight);
}

at::Tensor indices(const std::vector<int64_t>& rows, const at::Tensor& beside) {
  return at::tensor(rows, at::device(beside.device()).dtype(at::kLong));
}

/// Collects what is added to some rows of an output, and adds it all at the end.
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

RowAdditions bias_additions(const at::Tensor& y, const at::Tensor& bias,
                            const WeightReading& reading) {
  require_rows(y, reading);
  const Layer layer = {
      .base = {}, .low = {}, .by_output = [](const auto& vector) { return vector; }};
  RowAdditions additions;
  for (const auto& part : reading.selection->parts) {
    const auto added = bias_addition(bias, *part.selection, layer);
    if (added.defined()) additions.add(indices(part.rows, y), added, y);
  }
  return additions;
}

}  // namespace

at::Tensor add_terms_by_row(const at::Tensor& y, const at::Tensor& x, const at::Tensor& weight,
                            const OptionalTensor& bias, const WeightReading& reading,
                            const Layer& layer) {
  require_rows(x, reading);
  RowAdditions additions;
  for (const auto& part : reading.selection->parts) {
    const auto& site = *reading.site;
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
      added = sum_of_terms(added, x_of_part, weight, meaning, site, layer);
    }
    additions.add(rows, added, y);
  }
  return additions.to(y);
}

std::optional<WeightReading> read_mixed_bias(const at::Tensor& bias) {
  if (!is_marked(bias)) return std::nullopt;
  auto reading = read_weight(bias, Role::kValue);
  if (!reading.is_mixed()) return std::nullopt;
  return reading;
}

at::Tensor add_bias_by_row(const at::Tensor& y, const at::Tensor& bias,
                           const WeightReading& reading) {
  return bias_additions(y, bias, reading).to(y);
}

bool try_add_bias_by_row(const c10::OperatorHandle& op, torch::jit::Stack* stack) {
  const auto& name = op.schema().name();
  const bool in_place = name == "aten::add_";
  if ((name != "aten::add" && !in_place) || op.schema().overload_name() != "Tensor") return false;
  auto* const arguments = &*(stack->end() - 3);
  const auto y = arguments[0].toTensor(), bias = arguments[1].toTensor();
  if (is_marked(y) || bias.dim() != 1 || y.dim() < 2 || !arguments[2].toScalar().equal(1)) {
    return false;
  }
  const auto reading = read_mixed_bias(bias);
  if (!reading) return false;
  arguments[1] = stored_weight(bias);
  op.callBoxed(stack);
  if (in_place) {
    bias_additions(y, bias, *reading).into(y);
  } else {
    stack->back() = add_bias_by_row(stack->back().toTensor(), bias, *reading);
  }
  return true;
}

}  // namespace lowrank::effective
