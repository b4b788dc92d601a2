#pragma once

#include <cmath>
#include <cstdint>

#include "kernels/tiles/operands.h"

/// A loop that the compiler turns into vector instructions, for each instruction set.
namespace lowrank::kernels::LOWRANK_KERNELS {

template <class number>
void adam_loop(number* __restrict p, const number* __restrict g, number* __restrict m,
               number* __restrict v, int64_t count, const AdamStep& step) {
  const auto beta1 = static_cast<number>(step.beta1);
  const auto beta2 = static_cast<number>(step.beta2);
  const auto rest1 = static_cast<number>(1 - step.beta1);
  const auto rest2 = static_cast<number>(1 - step.beta2);
  // step_size m / (sqrt(v) / c + epsilon), with one division.
  const auto epsilon = static_cast<number>(step.epsilon * step.root_correction2);
  const auto step_size = static_cast<number>(step.step_size * step.root_correction2);
  const auto decay = static_cast<number>(step.decay);
  for (int64_t i = 0; i < count; ++i) {
    m[i] = beta1 * m[i] + rest1 * g[i];
    v[i] = beta2 * v[i] + rest2 * g[i] * g[i];
    p[i] = decay * p[i] - step_size * m[i] / (std::sqrt(v[i]) + epsilon);
  }
}

}  // namespace lowrank::kernels::LOWRANK_KERNELS
