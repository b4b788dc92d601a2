#include "app/pages/weights_sections.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <utility>
#include <vector>

#include "app/pages/json_values.h"

namespace lowrank::app {
namespace {

using Json = nlohmann::ordered_json;

std::string percent(double share) {
  return std::isfinite(share) ? fmt::format("{:.4f} %", 100 * share) : std::string("–");
}

void add_layer_errors(Page& page, const std::string& folder, const Json& report) {
  const auto [layers, more] = objects_in(value_at(report, {"layers"}), kMostRows);
  if (layers.empty()) return;
  page.heading("Layers of " + folder);
  Rows rows;
  Points ranks, errors;
  for (const Json& layer : layers) {
    const auto shape = numbers_in(value_at(layer, {"shape"}));
    const auto number = static_cast<double>(rows.size() + 1);
    const auto rank = number_in(value_at(layer, {"rank"}));
    const auto relative = number_in(value_at(layer, {"error", "relative_frobenius"}));
    ranks.emplace_back(number, rank);
    errors.emplace_back(number, relative);
    rows.push_back({text_in(value_at(layer, {"name"})),
                    shape.size() == 2 ? count(shape[0]) + " x " + count(shape[1]) : "–",
                    count(rank), figure(number_in(value_at(layer, {"norm"}))), figure(relative),
                    figure(number_in(value_at(layer, {"error", "spectral"}))),
                    percent(number_in(value_at(layer, {"error", "retained_energy"})))});
  }
  page.plot("Relative error of each layer", {.x = "layer (in the order of the table)",
                                             .y = "relative Frobenius error",
                                             .curves = {{"relative error", errors, true}},
                                             .is_scattered = true});
  page.plot("Rank of each layer", {.x = "layer (in the order of the table)",
                                   .y = "rank",
                                   .curves = {{"rank", ranks, true}},
                                   .is_scattered = true});
  page.table({"layer", "shape", "rank", "‖ΔW‖", "relative error", "spectral error", "energy kept"},
             rows, more);
  page.paragraph(fmt::format("In total: {} parameters, relative error {}, energy kept {}.",
                             count(number_in(value_at(report, {"parameters"}))),
                             figure(number_in(value_at(report, {"total", "relative_frobenius"}))),
                             percent(number_in(value_at(report, {"total", "retained_energy"})))));
}

void add_merged_tensors(Page& page, const std::string& folder, const Json& report) {
  const auto [tensors, more] = objects_in(value_at(report, {"tensors"}), kMostRows);
  if (tensors.empty()) return;
  page.heading("Tensors of " + folder);
  Rows rows;
  for (const Json& tensor : tensors) {
    const auto update = number_in(value_at(tensor, {"update"}));
    const auto rounding = number_in(value_at(tensor, {"rounding"}));
    rows.push_back({text_in(value_at(tensor, {"name"})), figure(update), figure(rounding),
                    figure(rounding / update), count(number_in(value_at(tensor, {"unchanged"}))),
                    count(number_in(value_at(tensor, {"numbers"})))});
  }
  page.table({"tensor", "update", "rounding", "rounding / update", "numbers unchanged", "of"}, rows,
             more);
}

void add_names(Page& page, const char* title, const Json& names) {
  if (!names.is_array() || names.empty()) return;
  Rows rows;
  const auto shown = std::min(names.size(), kMostRows);
  for (size_t i = 0; i < shown; ++i) rows.push_back({text_in(names[i])});
  page.folded_table(fmt::format("{} ({})", title, names.size()), {"tensor"}, rows,
                    names.size() - shown);
}

}  // namespace

void add_weights(Page& page, const std::string& folder, const Json& report) {
  add_layer_errors(page, folder, report);
  add_merged_tensors(page, folder, report);
  add_names(page, "Saved whole", value_at(report, {"whole"}));
  add_names(page, "Changed, but not saved", value_at(report, {"skipped"}));
  const auto& notes = value_at(report, {"notes"});
  if (!notes.is_array()) return;
  constexpr size_t kMostNotes = 50;
  for (size_t i = 0; i < std::min(notes.size(), kMostNotes); ++i) {
    page.paragraph(text_in(notes[i]));
  }
}

}  // namespace lowrank::app
