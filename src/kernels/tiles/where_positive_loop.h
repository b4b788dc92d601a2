#pragma once

#include "kernels/tiles/simd_vector.h"

namespace lowrank::kernels::LOWRANK_KERNELS {

/// to = from, but 0 where `by` is at most 0.
inline void where_positive_loop(float* to, const float* from, const float* by, int64_t count) {
  const auto step = [&](int64_t i, const auto&... size) {
    store(to + i, where_positive(load(by + i, size...), load(from + i, size...)), size...);
  };
  int64_t i = 0;
  for (; i + Vector::kLanes <= count; i += Vector::kLanes) step(i);
  if (i < count) step(i, count - i);
}

}  // namespace lowrank::kernels::LOWRANK_KERNELS
