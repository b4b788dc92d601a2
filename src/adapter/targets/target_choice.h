#pragma once

#include <lowrank/adapter/adapter.h>
#include <lowrank/adapter/lora_config.h>

#include <optional>
#include <string>
#include <vector>

#include "adapter/targets/model_view.h"

namespace lowrank {

/// One weight to adapt, given by its indices.
struct ChosenWeight {
  size_t layer = 0;
  size_t parameter = 0;
  std::optional<size_t> attention;  // the MultiheadAttention, if both its weights were chosen
};

/// Returns the weights that target_modules, exclude_modules, layers_to_transform and
/// modules_to_save leave to be adapted, in the model's order; there is at least one. Exclusion
/// comes first. As in PEFT, exclusion and layers_to_transform do not apply to parameters that are
/// named directly. Entries that match nothing go to `unmatched`; without it they are refused.
/// Throws ArgumentError as find_targets() says.
std::vector<ChosenWeight> choose_targets(const std::vector<ModelLayer>& layers,
                                         const LoraConfig& config,
                                         std::vector<UnmatchedEntry>* unmatched);

/// Returns the names and all their endings after a dot ("layer.0.query": also "0.query" and
/// "query"), which are what somebody may have meant.
std::vector<std::string> with_endings(const std::vector<std::string>& names);

}  // namespace lowrank
