#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "kernels/tiles/operands.h"
#include "kernels/tiles/simd_vector.h"

/// The loops of add_product.h, for each instruction set.
namespace lowrank::kernels::LOWRANK_KERNELS {

/// to = from + added, in float32, with its statistics lane by lane.
inline void add_loop(float* to, const float* from, const float* added, int64_t count,
                     SumLanes& lanes) {
  static_assert(Vector::kLanes <= SumLanes::kLanes);
  Vector largest = load(lanes.largest), change = load(lanes.change);
  Vector rounding = load(lanes.rounding);
  const auto step = [&](int64_t i, const auto&... size) {
    const Vector a = load(from + i, size...), b = load(added + i, size...);
    const Vector sum = add(a, b);
    // The rounding error of the sum, exactly (Knuth's TwoSum).
    const Vector of_b = subtract(sum, a);
    const Vector rest = add(subtract(a, subtract(sum, of_b)), subtract(b, of_b));
    store(to + i, sum, size...);
    largest = larger_magnitude(largest, b);
    change = multiply_add(b, b, change);
    rounding = multiply_add(rest, rest, rounding);
  };
  int64_t i = 0;
  for (; i + Vector::kLanes <= count; i += Vector::kLanes) step(i);
  if (i < count) step(i, count - i);
  store(lanes.largest, largest);
  store(lanes.change, change);
  store(lanes.rounding, rounding);
}

/// The bits of the largest |x|. Bits without the sign are in the order of the numbers, NaN above
/// all.
inline uint32_t largest_bits(const float* x, int64_t count) {
  uint32_t largest = 0;
  for (int64_t i = 0; i < count; ++i) {
    uint32_t bits = 0;
    std::memcpy(&bits, x + i, sizeof bits);
    largest = std::max(largest, bits & 0x7FFFFFFFU);
  }
  return largest;
}

}  // namespace lowrank::kernels::LOWRANK_KERNELS
