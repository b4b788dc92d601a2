#pragma once

#include "adapter/init/factor_pair.h"

namespace lowrank::init {

/// PEFT's orthogonal_init (datta0.github.io/posts/rethink-lora-init): the even and the odd rows of
/// a random orthogonal (rank, rank) matrix, each times a random matrix / 10, give B and A. Neither
/// factor is zero, but B·A is, so that the base stays as it is and both factors have gradients from
/// the start.
///
/// Draws from LibTorch's default CPU generator, in float32 as PEFT does; the factors are float32 on
/// the CPU. Throws ArgumentError for a rank that is odd or below 2.
FactorPair orthogonal(int64_t in, int64_t out, int64_t rank);

}  // namespace lowrank::init
