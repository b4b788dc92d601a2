#include "kernels/lora_rows.h"

#include <cstddef>

#include "kernels/vector_clones.h"

// Compiled so that the order of a sum is free (src/CMakeLists.txt).
namespace lowrank::kernels {
namespace {

[[gnu::always_inline]] inline float dot(const float* __restrict p, const float* __restrict q,
                                        int64_t count) {
  float sum = 0;
  for (int64_t i = 0; i < count; ++i) sum += p[i] * q[i];
  return sum;
}

/// y += B·down, for a rank that the compiler knows unless it is 0.
template <int64_t known_rank>
[[gnu::always_inline]] inline void add_product(float* __restrict y, const float* __restrict b,
                                               const float* __restrict down, int64_t out,
                                               int64_t rank) {
  const int64_t count = known_rank == 0 ? rank : known_rank;
  for (int64_t o = 0; o < out; ++o) y[o] += dot(b + o * count, down, count);
}

}  // namespace

LOWRANK_VECTOR_CLONES
void add_lora_rows(float* y, const float* x, const std::vector<int64_t>& rows,
                   const LoraFactors& factors) {
  const int64_t in = factors.in, out = factors.out, rank = factors.rank;
  std::vector<float> down(static_cast<size_t>(rank));
  for (const int64_t row : rows) {
    for (int64_t r = 0; r < rank; ++r) {
      down[static_cast<size_t>(r)] = factors.scaling * dot(factors.a + r * in, x + row * in, in);
    }
    float* const to = y + row * out;
    switch (rank) {
      case 4:
        add_product<4>(to, factors.b, down.data(), out, rank);
        break;
      case 8:
        add_product<8>(to, factors.b, down.data(), out, rank);
        break;
      case 16:
        add_product<16>(to, factors.b, down.data(), out, rank);
        break;
      default:
        add_product<0>(to, factors.b, down.data(), out, rank);
    }
  }
}

}  // namespace lowrank::kernels
