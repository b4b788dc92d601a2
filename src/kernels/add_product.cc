#include "kernels/add_product.h"

#include <algorithm>
#include <cstring>
#include <numeric>
#include <vector>

#include "kernels/parallel.h"
#include "kernels/product_parts.h"

namespace lowrank::kernels {
namespace {

/// The work that a thread takes at a time. The statistics are summed up block by block, in order.
constexpr int64_t kBlockParts = 4, kBlockNumbers = int64_t{1} << 16;

void add(SumFigures& sum, const SumLanes& part) {
  for (int lane = 0; lane < SumLanes::kLanes; ++lane) {
    sum.largest = std::max(sum.largest, part.largest[lane]);
    sum.squares_of_change += static_cast<double>(part.change[lane]);
    sum.squares_of_rounding += static_cast<double>(part.rounding[lane]);
  }
}

int64_t blocks_of(int64_t count, int64_t block) { return (count + block - 1) / block; }

}  // namespace

SumFigures add_product(float* to, const float* from, const ThinProduct& added,
                       const KernelTable& kernels) {
  ThinProduct product = added;
  product.beside = from;
  product.beside_row = product.columns;
  const auto block_rows = kBlockParts * kernels.part_rows;
  const auto blocks = blocks_of(product.rows, block_rows);
  std::vector<SumLanes> lanes(static_cast<size_t>(blocks));
  parallel_for(0, blocks, 1, [&](int64_t begin, int64_t end) {
    for (int64_t block = begin; block < end; ++block) {
      auto& sum = lanes[static_cast<size_t>(block)];
      const Span rows = {block * block_rows, std::min((block + 1) * block_rows, product.rows)};
      for_parts(product, rows, kernels, [&](const float* numbers, int64_t at, int64_t count) {
        kernels.add_loop(to + at, from + at, numbers, count, sum);
      });
    }
  });
  SumFigures sum;
  for (const auto& part : lanes) add(sum, part);
  return sum;
}

float largest_magnitude(const float* x, int64_t count, const KernelTable& kernels) {
  const auto blocks = blocks_of(count, kBlockNumbers);
  std::vector<uint32_t> bits(static_cast<size_t>(blocks));
  parallel_for(0, blocks, 1, [&](int64_t begin, int64_t end) {
    // Backwards, so that the next pass over this memory begins with what is still in the caches.
    for (int64_t block = end - 1; block >= begin; --block) {
      const auto first = block * kBlockNumbers;
      bits[static_cast<size_t>(block)] =
          kernels.largest_bits(x + first, std::min(kBlockNumbers, count - first));
    }
  });
  const auto largest = std::accumulate(bits.begin(), bits.end(), uint32_t{0},
                                       [](uint32_t a, uint32_t b) { return std::max(a, b); });
  float magnitude = 0;
  std::memcpy(&magnitude, &largest, sizeof magnitude);
  return magnitude;
}

}  // namespace lowrank::kernels
