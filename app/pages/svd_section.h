#pragma once

#include <nlohmann/json.hpp>

#include "app/pages/page.h"

namespace lowrank::app {

/// Adds what `lowrank svd` found out about a matrix (record_of()): the spectrum, the chosen rank,
/// the error, and W, B, A and what is left as heat maps.
void add_svd(Page& page, const nlohmann::ordered_json& record);

}  // namespace lowrank::app
