#pragma once

#include <nlohmann/json.hpp>
#include <vector>

#include "app/pages/page.h"
#include "app/runs/run_record.h"

/// Parts of a page about training runs. A part without anything to show is left out.
namespace lowrank::app {

/// What each adapter costs and does, in a sentence or two.
void add_findings(Page& page, const std::vector<RunRecord>& runs);
/// What was run and what came out, one column for each run.
void add_summary(Page& page, const std::vector<RunRecord>& runs);
/// The checks in the report.json of `lowrank mnist`.
void add_checks(Page& page, const nlohmann::ordered_json& notebook);
/// Losses, validations and learning rates.
void add_curves(Page& page, const std::vector<RunRecord>& runs);
/// Accuracy and mistakes by class, with the adapter off and on.
void add_mistakes(Page& page, const std::vector<RunRecord>& runs);
/// Confusion matrices, off and on, and their difference.
void add_confusion(Page& page, const std::vector<RunRecord>& runs);
/// Images that the adapter mended and broke.
void add_images(Page& page, const std::vector<RunRecord>& runs);
/// Base and adapter as areas.
void add_parameters(Page& page, const std::vector<RunRecord>& runs);
/// All options, folded up.
void add_options(Page& page, const std::vector<RunRecord>& runs);

}  // namespace lowrank::app
