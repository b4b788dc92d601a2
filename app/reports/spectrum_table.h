#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

/// The columns that show a spectrum, in every table that has them.
namespace lowrank::app {

std::vector<std::string> spectrum_header();

/// Adds the cells below spectrum_header() for what to_json(Spectrum) gives; empty ones for null.
void add_spectrum_cells(std::vector<std::string>& row, const nlohmann::ordered_json& spectrum);

}  // namespace lowrank::app
