#pragma once

#include <vector>

#include "adapter/init/initialise.h"
#include "adapter/targets/model_view.h"

namespace lowrank {

/// EVA: shares the ranks of the targets out by the variance that the components of their inputs
/// explain (init/eva.h), as PEFT does (tuners/lora/eva.py). Targets that get no rank go, with their
/// data; the config then names the others, with their ranks and alphas, in such a way that in this
/// model it finds nothing else. PEFT's own names may: its "query" is "other.query" too.
void share_ranks(LoraConfig& config, std::vector<Target>& targets, std::vector<LayerData>& data,
                 const std::vector<ModelLayer>& model);

}  // namespace lowrank
