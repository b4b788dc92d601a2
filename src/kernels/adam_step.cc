#include "kernels/adam_step.h"

#include <algorithm>
#include <array>

#include "kernels/parallel.h"

namespace lowrank::kernels {
namespace {

/// Elements a thread should at least have: below this, waking it up costs more.
constexpr int64_t kElementsPerThread = int64_t{1} << 15;

/// The part of a gradient that is formed at a time stays in the near caches.
constexpr int64_t kPartRows = 6, kPartColumns = 32 * kColumnUnit;

/// Whoever forms a gradient and takes the step in turns reads p, m and v with pauses, in which the
/// machine forgets that it reads them in order: what lies a page further is asked for by name.
constexpr int64_t kAhead = 1024, kStretch = 256, kLine = 16;

void step_and_look_ahead(float* p, const float* g, float* m, float* v, int64_t count,
                         const AdamStep& step, const KernelTable& kernels) {
  for (int64_t begin = 0; begin < count; begin += kStretch) {
    const auto size = std::min(kStretch, count - begin);
    for (int64_t i = begin + kAhead; i < begin + kAhead + size; i += kLine) {
      for (const auto* from : {p, m, v}) __builtin_prefetch(from + i, /*rw=*/1, /*locality=*/2);
    }
    kernels.adam_step_float(p + begin, g + begin, m + begin, v + begin, size, step);
  }
}

void step_of_rows(float* p, float* m, float* v, const ThinProduct& gradient, Span rows,
                  const AdamStep& step, const KernelTable& kernels) {
  std::array<float, kPartRows * kPartColumns> g;
  for (int64_t row = rows.begin; row < rows.end; row += kPartRows) {
    const auto count = std::min(kPartRows, rows.end - row);
    for (int64_t column = 0; column < gradient.columns; column += kPartColumns) {
      const auto columns = std::min(kPartColumns, gradient.columns - column);
      ThinProduct part = gradient;
      part.first.x += row * part.first.x_row;
      part.first.w += column;
      part.y = g.data();
      part.y_row = columns;
      kernels.multiply(part, Span{0, count}, Span{0, columns});
      const bool whole = columns == gradient.columns;  // rows then lie one after the other
      for (int64_t i = 0; i < (whole ? 1 : count); ++i) {
        const auto at = (row + i) * gradient.columns + column;
        step_and_look_ahead(p + at, g.data() + i * columns, m + at, v + at,
                            whole ? count * columns : columns, step, kernels);
      }
    }
  }
}

}  // namespace

void adam_step(float* p, const float* g, float* m, float* v, int64_t count, const AdamStep& step) {
  parallel_for(0, count, kElementsPerThread, [&](int64_t begin, int64_t end) {
    kernel_table().adam_step_float(p + begin, g + begin, m + begin, v + begin, end - begin, step);
  });
}

void adam_step(double* p, const double* g, double* m, double* v, int64_t count,
               const AdamStep& step) {
  parallel_for(0, count, kElementsPerThread, [&](int64_t begin, int64_t end) {
    kernel_table().adam_step_double(p + begin, g + begin, m + begin, v + begin, end - begin, step);
  });
}

void adam_step(float* p, float* m, float* v, const ThinProduct& gradient, const AdamStep& step,
               const KernelTable& kernels) {
  const auto grain = kElementsPerThread / std::max<int64_t>(gradient.columns, 1) + 1;
  parallel_for(0, gradient.rows, grain, [&](int64_t begin, int64_t end) {
    step_of_rows(p, m, v, gradient, Span{begin, end}, step, kernels);
  });
}

}  // namespace lowrank::kernels
