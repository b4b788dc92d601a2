#pragma once

#include <vector>

#include "adapter/init/eva_sketch.h"
#include "adapter/init/factor_pair.h"

/// EVA (Paischer et al., "Explained Variance Adaptation", arXiv 2410.07170; PEFT's
/// tuners/lora/eva.py): A starts with the principal components of the layer's inputs, and the ranks
/// of the layers are shared out by the variance that their components explain.
namespace lowrank::init {

/// How many components a layer of this `rank` can get: rank·rho, rounded as Python rounds (halves
/// to even). Throws ArgumentError for a rank below 1 and for a rho below 1 or not finite.
int64_t eva_components(int64_t rank, double rho);

/// The new ranks of layers with these `ranks` and explained variance `ratios` (EvaSketch's): of all
/// components of all layers, each giving at most eva_components(), the Σ ranks with the largest
/// ratios; of equal ones the earlier layer's. A rank of 0 leaves the layer without an adapter. Of
/// layers that share their inputs, and so their ratios, the earlier never gets less than a later.
/// PEFT scales a layer's alpha by new rank / old rank (adjust_scaling_factors), so that s stays.
std::vector<int64_t> eva_ranks(const std::vector<at::Tensor>& ratios,
                               const std::vector<int64_t>& ranks, double rho);

/// A = the first `rank` components, B = 0 (out, rank), both float32. With `whiten` each component
/// is divided by the root of its singular value. (PEFT divides in place, so that layers with equal
/// inputs are divided twice; this does not.) Throws ArgumentError for a rank below 1 or above
/// available(), and TensorError to whiten by a singular value of 0.
FactorPair eva(const EvaSketch& inputs, int64_t out, int64_t rank, bool whiten = false);

}  // namespace lowrank::init
