#pragma once

#include "adapter/init/eva_sketch.h"
#include "adapter/init/factor_pair.h"

/// EVA (Paischer et al., "Explained Variance Adaptation", arXiv 2410.07170; PEFT's
/// tuners/lora/eva.py): A starts with the principal components of the layer's inputs, and the ranks
/// are distributed among the layers by the variance that their components explain.
namespace lowrank::init {

/// Returns A = the first `rank` components and B = 0 (out, rank), both float32. With `whiten` each
/// component is divided by the square root of its singular value. (PEFT divides in place, so that
/// layers with equal inputs are divided twice; here they are not.) Throws ArgumentError for a rank
/// below 1 or above available(), and TensorError if `whiten` meets a singular value of 0.
FactorPair eva(const EvaSketch& inputs, int64_t out, int64_t rank, bool whiten = false);

}  // namespace lowrank::init
