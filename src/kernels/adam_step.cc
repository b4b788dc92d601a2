#include "kernels/adam_step.h"

#include <algorithm>
#include <array>

#include "kernels/parallel.h"
#include "kernels/product_parts.h"
#include "kernels/tiles/flush_denormals.h"

namespace lowrank::kernels {
namespace {

/// The fewest elements that a thread gets: with fewer, waking it up costs more than they do.
constexpr int64_t kElementsPerThread = int64_t{1} << 15;

/// Calls f(begin, count) for one stretch of the `count` numbers after the other, and prefetches
/// what is a page ahead in each of `memory`. The hardware prefetcher does not do that here: forming
/// a product in between interrupts the reads for so long that it no longer sees them as sequential.
template <size_t N, class F>
void look_ahead(const std::array<const float*, N>& memory, int64_t count, const F& f) {
  constexpr int64_t kAhead = 1024, kStretch = 256;
  for (int64_t begin = 0; begin < count; begin += kStretch) {
    const auto size = std::min(kStretch, count - begin);
    for (int64_t i = begin + kAhead; i < begin + kAhead + size; i += kLine) {
      for (const auto* from : memory) __builtin_prefetch(from + i, /*rw=*/1, /*locality=*/2);
    }
    f(begin, size);
  }
}

}  // namespace

void adam_step(float* p, const float* g, float* m, float* v, int64_t count, const AdamStep& step) {
  parallel_for(0, count, kElementsPerThread, [&](int64_t begin, int64_t end) {
    const FlushDenormals flush;
    kernel_table().adam_step_float(p + begin, g + begin, m + begin, v + begin, end - begin, step);
  });
}

void adam_step(double* p, const double* g, double* m, double* v, int64_t count,
               const AdamStep& step) {
  parallel_for(0, count, kElementsPerThread, [&](int64_t begin, int64_t end) {
    const FlushDenormals flush;
    kernel_table().adam_step_double(p + begin, g + begin, m + begin, v + begin, end - begin, step);
  });
}

void adam_step(float* p, float* m, float* v, const ThinProduct& gradient, const AdamStep& step,
               const KernelTable& kernels) {
  const auto grain = kElementsPerThread / std::max<int64_t>(gradient.columns, 1) + 1;
  parallel_for(0, gradient.rows, grain, [&](int64_t begin, int64_t end) {
    const FlushDenormals flush;
    for_parts(gradient, Span{begin, end}, kernels, [&](const float* g, int64_t at, int64_t count) {
      look_ahead<3>({p + at, m + at, v + at}, count, [&](int64_t i, int64_t size) {
        kernels.adam_step_float(p + at + i, g + i, m + at + i, v + at + i, size, step);
      });
    });
  });
}

}  // namespace lowrank::kernels
