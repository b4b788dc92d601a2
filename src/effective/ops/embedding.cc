#include "effective/ops/embedding.h"

#include <ATen/ATen.h>

#include "effective/compact_weight.h"
#include "effective/mark.h"
#include "effective/ops/factored_output.h"

namespace lowrank::effective {

at::Tensor embedding(const at::Tensor& weight, const at::Tensor& indices, int64_t padding_idx,
                     bool scale_grad_by_freq, bool sparse) {
  const auto look_up = [&](const at::Tensor& table) {
    return at::embedding(table, indices, padding_idx, scale_grad_by_freq, sparse);
  };
  const auto reading = read_weight(weight, Role::kEmbedding);
  const bool is_table = reading.compact != nullptr && reading.compact->is(weight);
  if (is_table && reading.is_base()) return widened_rows(*reading.compact, indices);
  if (reading.computation != Computation::kFactored) {
    return look_up(effective_value(weight, reading));
  }
  const auto table =
      is_table && !reads_weight(reading) ? without_mark(weight) : stored_weight(weight);
  const auto of_base = is_table ? widened_rows(*reading.compact, indices) : look_up(table);
  // Only the table may get a sparse gradient: that of a factor would have to be transposed.
  const auto look_up_rows = [&](const at::Tensor& rows, const at::Tensor& from) {
    return at::embedding(from, rows, padding_idx, scale_grad_by_freq, /*sparse=*/false);
  };
  const Layer layer = {
      .base = look_up_rows,
      .low = [&](const at::Tensor& rows, const at::Tensor& a,
                 const at::Tensor& b) { return at::matmul(look_up_rows(rows, a.t()), b.t()); },
      .by_output = [](const at::Tensor& vector) { return vector; },
  };
  return add_terms(of_base, indices, table, {}, reading, layer);
}

}  // namespace lowrank::effective
