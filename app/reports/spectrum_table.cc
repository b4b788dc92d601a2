#include "app/reports/spectrum_table.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

namespace lowrank::app {

std::vector<std::string> spectrum_header() {
  return {"s1", "rank", "stable", "effective", "90 %", "95 %", "99 %"};
}

void add_spectrum_cells(std::vector<std::string>& row, const nlohmann::ordered_json& spectrum) {
  if (spectrum.is_null()) {
    row.resize(row.size() + spectrum_header().size());
    return;
  }
  row.push_back(fmt::format("{:.4g}", spectrum.at("largest").get<double>()));
  row.push_back(fmt::format("{}", spectrum.at("numerical_rank").get<int64_t>()));
  for (const char* field : {"stable_rank", "effective_rank"}) {
    row.push_back(fmt::format("{:.1f}", spectrum.at(field).get<double>()));
  }
  for (const char* field : {"rank_90", "rank_95", "rank_99"}) {
    row.push_back(fmt::format("{}", spectrum.at(field).get<int64_t>()));
  }
}

}  // namespace lowrank::app
