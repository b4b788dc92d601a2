#pragma once

#include "adapter/init/factor_pair.h"

namespace lowrank::init {

/// OLoRA (Büyükakyüz, arXiv 2406.01775; PEFT's olora_init): with W = Q·R, B = Q[:, :rank], which
/// has orthonormal columns, and A = R[:rank]. The scaling plays no part in it. Draws no random
/// numbers.
///
/// Throws ArgumentError for a rank below 1 or above min(out, in), and TensorError for a W that is
/// not a real, finite matrix.
FactorPair olora(const at::Tensor& w, int64_t rank);

}  // namespace lowrank::init
