#include "kernels/lora_rows.h"

#include <cstddef>

#include "kernels/thin_product.h"

namespace lowrank::kernels {
namespace {

/// add_lora_rows() for the consecutive rows of `run`.
void add_run(float* y, const float* x, Span run, const LoraFactors& factors,
             std::vector<float>& down) {
  const auto& kernels = kernel_table();
  const int64_t in = factors.in, out = factors.out, rank = factors.rank;
  const Span rows = {0, run.end - run.begin};
  down.resize(static_cast<size_t>(rows.end * rank));
  const ThinProduct to_down = {
      .first = {.x = x + run.begin * in, .x_row = in, .w = factors.a, .w_row = in, .depth = in},
      .rows = rows.end,
      .columns = rank,
      .y = down.data(),
      .y_row = rank};
  kernels.multiply_transposed(to_down, rows, Span{0, rank});
  for (float& value : down) value *= factors.scaling;
  const ThinProduct to_y = {
      .first = {.x = down.data(), .x_row = rank, .w = factors.b, .w_row = rank, .depth = rank},
      .rows = rows.end,
      .columns = out,
      .accumulate = true,
      .y = y + run.begin * out,
      .y_row = out};
  kernels.multiply_transposed(to_y, rows, Span{0, out});
}

}  // namespace

void add_lora_rows(float* y, const float* x, const std::vector<int64_t>& rows,
                   const LoraFactors& factors) {
  std::vector<float> down;
  for (size_t i = 0; i < rows.size();) {
    size_t next = i + 1;
    while (next < rows.size() && rows[next] == rows[next - 1] + 1) ++next;
    add_run(y, x, Span{rows[i], rows[next - 1] + 1}, factors, down);
    i = next;
  }
}

}  // namespace lowrank::kernels
