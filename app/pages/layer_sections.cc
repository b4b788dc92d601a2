#include "app/pages/layer_sections.h"

#include <fmt/format.h>

#include <cmath>
#include <cstddef>
#include <vector>

#include "app/pages/json_values.h"

namespace lowrank::app {
namespace {

using Json = nlohmann::ordered_json;

constexpr size_t kFewLayers = 6;     // whose plots are not folded up
constexpr size_t kManyLayers = 100;  // from here on each has one plot, of fewer points

struct Spectrum {
  std::vector<double> values;
  double energy = 0, count = 0;
};

Spectrum spectrum_in(const Json& json) {
  return {numbers_in(value_at(json, {"singular_values"})), number_in(value_at(json, {"energy"})),
          number_in(value_at(json, {"count"}))};
}

/// How many of the values hold this share of the energy; "over 64" if those at hand do not.
std::string rank_for(const Spectrum& spectrum, double share) {
  if (!(spectrum.energy > 0)) return "–";
  double sum = 0;
  for (size_t i = 0; i < spectrum.values.size(); ++i) {
    sum += spectrum.values[i] * spectrum.values[i];
    // The energy was added up in another order.
    if (sum >= share * spectrum.energy * (1 - 1e-6)) return std::to_string(i + 1);
  }
  return fmt::format("over {}", spectrum.values.size());
}

Points by_number(const std::vector<double>& values, size_t most) {
  Points points;
  for (size_t i = 0; i < values.size(); ++i)
    points.emplace_back(static_cast<double>(i + 1), values[i]);
  return thinned(points, most, /*by_rank=*/true);
}

/// In percent.
Points energy_by_rank(const Spectrum& spectrum, size_t most) {
  Points points;
  double sum = 0;
  for (size_t i = 0; i < spectrum.values.size(); ++i) {
    sum += spectrum.values[i] * spectrum.values[i];
    points.emplace_back(static_cast<double>(i + 1), 100 * sum / spectrum.energy);
  }
  return thinned(points, most, /*by_rank=*/true);
}

std::string shape_in(const Json& json) {
  std::string text;
  for (const auto size : numbers_in(json)) text += (text.empty() ? "" : " x ") + figure(size);
  return text;
}

double norm_of(const Spectrum& spectrum) { return std::sqrt(spectrum.energy); }

std::vector<std::string> row_about(const Json& layer) {
  const auto w = spectrum_in(value_at(layer, {"weight"}));
  const auto update = spectrum_in(value_at(layer, {"update"}));
  const auto first = [](const Spectrum& spectrum) {
    return spectrum.values.empty() ? std::string("–") : figure(spectrum.values.front());
  };
  return {text_in(value_at(layer, {"name"})),
          shape_in(value_at(layer, {"shape"})),
          count(number_in(value_at(layer, {"rank"}))),
          first(w),
          figure(norm_of(w)),
          rank_for(w, 0.9),
          first(update),
          figure(norm_of(update)),
          rank_for(update, 0.9),
          figure(norm_of(update) / norm_of(w))};
}

void add_plots(Page& page, const Json& layer, bool is_short) {
  const size_t most = is_short ? 24 : 64;
  const auto w = spectrum_in(value_at(layer, {"weight"}));
  const auto update = spectrum_in(value_at(layer, {"update"}));
  constexpr size_t kFewPoints = 20;
  const bool is_few = update.values.size() <= kFewPoints;
  page.plot("Singular values", {.x = "number",
                                .y = "singular value",
                                .curves = {{"W", by_number(w.values, most), false},
                                           {"ΔW = s·B·A", by_number(update.values, most), is_few}},
                                .is_logarithmic = true});
  if (is_short) return;
  page.plot("Energy in the first singular values",
            {.x = "rank",
             .y = "energy (%)",
             .curves = {{"W", energy_by_rank(w, most), false},
                        {"ΔW = s·B·A", energy_by_rank(update, most), is_few}}});
}

}  // namespace

void add_layers(Page& page, const std::string& run, const Json& json) {
  const auto [layers, more] = objects_in(json, kMostRows);
  if (layers.empty()) return;
  page.heading("Layers of " + run);
  page.paragraph(
      "σ₁ is the largest singular value and ‖·‖ the Frobenius norm. 90 % says how many singular "
      "values hold nine tenths of the energy Σσ².");
  Rows rows;
  for (const Json& layer : layers) rows.push_back(row_about(layer));
  page.table({"layer", "shape", "rank", "σ₁ of W", "‖W‖", "90 %", "σ₁ of ΔW", "‖ΔW‖", "90 %",
              "‖ΔW‖ / ‖W‖"},
             rows, more);
  const bool is_folded = layers.size() > kFewLayers;
  for (const Json& layer : layers) {
    const auto name = text_in(value_at(layer, {"name"}));
    const auto title =
        fmt::format("{}, rank {}", name, count(number_in(value_at(layer, {"rank"}))));
    if (is_folded) {
      page.begin_fold(title);
    } else {
      page.smaller_heading(title);
    }
    add_plots(page, layer, layers.size() >= kManyLayers);
    if (is_folded) page.end_fold();
  }
}

}  // namespace lowrank::app
