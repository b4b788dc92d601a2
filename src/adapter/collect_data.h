#pragma once

#include <functional>
#include <vector>

#include "adapter/init/initialise.h"
#include "adapter/state.h"

namespace lowrank {

/// Returns whether this initialisation needs data.
bool needs_data(LoraInit init);

/// Calls `run` if the config's initialisation needs data, with all adapters off, and returns what
/// was collected for each target (nothing for embeddings). This does what attach() in adapter.h
/// promises about a run. Afterwards the model carries no more marks than before.
std::vector<LayerData> collect_data(Adapter::State& state, const std::vector<Target>& targets,
                                    const LoraConfig& config, const std::function<void()>& run);

}  // namespace lowrank
