#include "app/pages/svd_section.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include "app/pages/json_values.h"

namespace lowrank::app {
namespace {

using Json = nlohmann::ordered_json;

std::string size_in(const Json& shape) {
  const auto sizes = numbers_in(shape);
  return sizes.size() == 2 ? count(sizes[0]) + " x " + count(sizes[1]) : "–";
}

void add_figures(Page& page, const Json& record) {
  const auto error = [&](const char* name) {
    return figure(number_in(value_at(record, {"error", name})));
  };
  const auto kept = number_in(value_at(record, {"error", "retained_energy"}));
  page.table(
      {"figure", "value"},
      {{"shape", size_in(value_at(record, {"shape"}))},
       {"numerical rank", count(number_in(value_at(record, {"numerical_rank"})))},
       {"rank of B and A", count(number_in(value_at(record, {"rank"})))},
       {"chosen by", text_in(value_at(record, {"rank_rule"}))},
       {"numbers in W", count(number_in(value_at(record, {"parameters", "dense"})))},
       {"numbers in B and A", count(number_in(value_at(record, {"parameters", "factored"})))},
       {"relative error", error("relative_frobenius")},
       {"spectral error", error("spectral")},
       {"largest error of an entry", error("largest_entry")},
       {"energy kept", figure(100 * kept) + " %"}});
}

void add_spectrum(Page& page, const Json& record) {
  const auto values = numbers_in(value_at(record, {"singular_values"}));
  double whole = 0, sum = 0;
  for (const auto value : values) whole += value * value;
  Points spectrum, energy;
  for (size_t i = 0; i < values.size(); ++i) {
    const auto number = static_cast<double>(i + 1);
    sum += values[i] * values[i];
    spectrum.emplace_back(number, values[i]);
    energy.emplace_back(number, 100 * sum / whole);
  }
  const auto rank = number_in(value_at(record, {"rank"}));
  const Curve cut{"the chosen rank", {}, true};
  auto on_spectrum = cut, on_energy = cut;
  for (size_t i = 0; i < values.size(); ++i) {
    if (static_cast<double>(i + 1) != rank) continue;
    on_spectrum.points.push_back(spectrum[i]);
    on_energy.points.push_back(energy[i]);
  }
  page.plot("Singular values", {.x = "number",
                                .y = "singular value",
                                .curves = {{"singular values", spectrum}, on_spectrum},
                                .is_logarithmic = true});
  page.plot("Energy in the first singular values",
            {.x = "rank", .y = "energy (%)", .curves = {{"energy", energy}, on_energy}});
}

void add_maps(Page& page, const Json& record) {
  std::vector<std::pair<std::string, HeatMap>> maps;
  for (const auto& [name, caption] : {std::pair("W", "W"), std::pair("B", "B"), std::pair("A", "A"),
                                      std::pair("rest", "W - B·A")}) {
    HeatMap map{.cells = {}, .kind = HeatMap::Kind::kShades};
    double largest = 0;
    const auto& rows = value_at(record, {"maps", name});
    if (!rows.is_array()) continue;
    for (size_t i = 0; i < std::min(rows.size(), kMostCells); ++i) {
      map.cells.push_back(numbers_in(rows[i]));
      if (map.cells.back().size() > kMostCells) map.cells.back().resize(kMostCells);
    }
    for (const auto& row : map.cells) {
      for (const auto value : row) largest = std::max(largest, std::abs(value));
    }
    if (map.cells.empty()) continue;
    maps.emplace_back(fmt::format("{}, up to {}", caption, figure(largest)), map);
  }
  if (maps.empty()) return;
  page.smaller_heading("The matrix, its factors, and what is left");
  page.paragraph(
      "Each map has its own scale. Of a side longer than 32, a cell is the root mean square of its "
      "part.");
  page.heat_maps(maps);
}

}  // namespace

void add_svd(Page& page, const Json& record) {
  if (!record.is_object()) return;
  page.heading("W = " + text_in(value_at(record, {"source"})));
  add_figures(page, record);
  add_spectrum(page, record);
  add_maps(page, record);
}

}  // namespace lowrank::app
