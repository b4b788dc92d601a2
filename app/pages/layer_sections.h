#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "app/pages/page.h"

namespace lowrank::app {

/// Adds what figures.json says of the layers of an adapter: the spectra of W and of s·B·A, and how
/// much of each the first ranks hold.
void add_layers(Page& page, const std::string& run, const nlohmann::ordered_json& layers);

}  // namespace lowrank::app
