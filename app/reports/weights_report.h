#pragma once

#include <lowrank/weights/report.h>

#include <string>

namespace lowrank::app {

/// Prints a line for each layer, and the totals. `rule` is what the ranks follow.
void print_report(const WeightsReport& report, const std::string& rule);

}  // namespace lowrank::app
