#pragma once

#include <cstdint>
#include <vector>

#include "adapter/init/initialise.h"
#include "adapter/targets/model_view.h"

namespace lowrank {
namespace init {

/// Returns how many components a layer of this `rank` can get: rank·rho, rounded as Python rounds
/// (halves to even). Throws ArgumentError for a rank below 1, and for a rho that is below 1 or not
/// finite.
int64_t eva_components(int64_t rank, double rho);

/// Returns the new ranks of layers with these `ranks` and explained variance `ratios` (from
/// EvaSketch). Each layer offers at most eva_components() of its components. Of all that are
/// offered, the Σ ranks components with the largest ratios are kept; of equal ones, those of the
/// earlier layer. A layer of rank 0 gets no adapter. Of layers that share their inputs, and so
/// their ratios, an earlier one never gets less than a later one. PEFT scales a layer's alpha by
/// new rank / old rank (adjust_scaling_factors), so that s stays the same.
std::vector<int64_t> eva_ranks(const std::vector<at::Tensor>& ratios,
                               const std::vector<int64_t>& ranks, double rho);

}  // namespace init

/// For EVA: redistributes the ranks of the targets by the variance that the components of their
/// inputs explain, as PEFT does (tuners/lora/eva.py). Targets that get no rank are
/// removed, with their data. The config then names the remaining ones, with their ranks and alphas,
/// so that it matches nothing else in this model. (PEFT's names may match more: "query" also
/// matches "other.query".)
void share_ranks(LoraConfig& config, std::vector<Target>& targets, std::vector<LayerData>& data,
                 const std::vector<ModelLayer>& model);

}  // namespace lowrank
