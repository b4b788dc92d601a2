#include <lowrank/weights/report.h>

#include <cmath>
#include <nlohmann/json.hpp>

namespace lowrank {
namespace {

double root_of_squares(const std::vector<LayerError>& layers, double LayerError::*member) {
  double squares = 0;
  for (const auto& layer : layers) squares += layer.*member * layer.*member;
  return std::sqrt(squares);
}

}  // namespace

double LayerError::relative() const { return norm == 0 ? 0 : frobenius / norm; }
double LayerError::retained_energy() const { return 1 - relative() * relative(); }

double WeightsReport::norm() const { return root_of_squares(layers, &LayerError::norm); }
double WeightsReport::frobenius() const { return root_of_squares(layers, &LayerError::frobenius); }

double WeightsReport::relative() const {
  const double whole_norm = norm();
  return whole_norm == 0 ? 0 : frobenius() / whole_norm;
}

int64_t WeightsReport::parameters() const {
  int64_t count = 0;
  for (const auto& layer : layers) count += layer.rank * (layer.rows + layer.columns);
  return count;
}

nlohmann::ordered_json to_json(const LayerError& layer) {
  nlohmann::ordered_json json = {{"name", layer.name}, {"shape", {layer.rows, layer.columns}}};
  if (layer.rank_before > 0) json["rank_before"] = layer.rank_before;
  json["rank"] = layer.rank;
  json["norm"] = layer.norm;
  json["error"] = {{"frobenius", layer.frobenius},
                   {"relative_frobenius", layer.relative()},
                   {"spectral", layer.spectral},
                   {"retained_energy", layer.retained_energy()}};
  return json;
}

nlohmann::ordered_json to_json(const WeightsReport& report) {
  nlohmann::ordered_json json;
  json["layers"] = nlohmann::ordered_json::array();
  for (const auto& layer : report.layers) json["layers"].push_back(to_json(layer));
  const double relative = report.relative();
  json["total"] = {{"norm", report.norm()},
                   {"frobenius", report.frobenius()},
                   {"relative_frobenius", relative},
                   {"retained_energy", 1 - relative * relative}};
  json["parameters"] = report.parameters();
  json["whole"] = report.whole;
  json["whole_parameters"] = report.whole_numbers;
  json["skipped"] = report.skipped;
  json["unchanged"] = report.unchanged;
  json["notes"] = report.notes;
  return json;
}

}  // namespace lowrank
