#pragma once

#include <functional>
#include <vector>

#include "adapter/init/initialise.h"
#include "adapter/state.h"

namespace lowrank {

/// Whether this initialisation looks at data.
bool needs_data(LoraInit init);

/// Calls `run` where the config's initialisation looks at data, with the model as its base, and
/// gives what it showed of each target; nothing of embeddings. What attach() in adapter.h says of a
/// run is done here; the model carries no mark afterwards that it did not carry before.
std::vector<LayerData> collect_data(Adapter::State& state, const std::vector<Target>& targets,
                                    const LoraConfig& config, const std::function<void()>& run);

}  // namespace lowrank
