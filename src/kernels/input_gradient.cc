#include "kernels/input_gradient.h"

#include <memory>

#include "kernels/product_sharing.h"

namespace lowrank::kernels {
namespace {

/// If w has at least this many numbers, its halves are read separately: it does not fit into a
/// core's own cache.
constexpr int64_t kLargeMatrix = int64_t{1} << 18;
/// The fewest sums that a thread adds up.
constexpr int64_t kSumsPerThread = int64_t{1} << 15;

/// y += added, which is (rows, columns) without gaps.
void add_to(const ThinProduct& product, const float* added) {
  const auto columns = product.columns;
  const auto grain = at::ceil_div(kSumsPerThread, columns);
  parallel_for(0, product.rows, grain, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      float* const y = product.y + row * product.y_row;
      for (int64_t i = 0; i < columns; ++i) y[i] += added[row * columns + i];
    }
  });
}

}  // namespace

void multiply_halves(const ThinProduct& product, const KernelTable& kernels) {
  const auto depth = product.first.depth;
  if (depth * product.columns < kLargeMatrix) return multiply(product, kernels);
  const auto size = static_cast<size_t>(product.rows * product.columns);
  if (size == 0) return;
  const std::unique_ptr<float[]> sums(new float[size]);
  ThinProduct upper = product, lower = product;
  upper.first.depth = depth / 2;
  upper.second = {};
  lower.first.x += upper.first.depth * product.first.x_column;
  lower.first.w += upper.first.depth * product.first.w_row;
  lower.first.depth = depth - upper.first.depth;
  lower.bias = nullptr;
  lower.accumulate = false;
  lower.y = sums.get();
  lower.y_row = product.columns;
  // Each half is computed by half of the threads, or by all of them if their number is odd.
  const auto threads = threads_for(product);
  const Parts parts(product, kColumnUnit, threads % 2 == 0 ? threads / 2 : threads);
  for_each(2 * parts.count(), [&](int64_t i) {
    const auto part = i % parts.count();
    kernels.multiply(i < parts.count() ? upper : lower, parts.rows(part), parts.columns(part));
  });
  add_to(product, sums.get());
}

at::Tensor input_gradient(const MatmulOperands& first, const MatmulOperands& second) {
  return product_by(&multiply_halves, first, second, {}, Activation::kNone);
}

}  // namespace lowrank::kernels
