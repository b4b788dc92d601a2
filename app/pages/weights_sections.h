#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "app/pages/page.h"

namespace lowrank::app {

/// Adds what the report of a command for weights (kReportFile) says: the errors and ranks of an
/// adapter's layers, or how the tensors of a merged model were rounded.
void add_weights(Page& page, const std::string& folder, const nlohmann::ordered_json& report);

}  // namespace lowrank::app
