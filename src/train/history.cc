#include <lowrank/train/history.h>

#include <limits>
#include <nlohmann/json.hpp>

namespace lowrank {

nlohmann::ordered_json to_json(const TrainHistory& history) {
  nlohmann::ordered_json json = {{"points", nlohmann::ordered_json::array()},
                                 {"validations", nlohmann::ordered_json::array()}};
  for (const auto& point : history.points) {
    json["points"].push_back({point.step, point.loss, point.learning_rate});
  }
  for (const auto& validation : history.validations) {
    nlohmann::ordered_json item = {{"step", validation.step}, {"loss", validation.loss}};
    for (const auto& [name, value] : validation.metrics) item["metrics"][name] = value;
    json["validations"].push_back(std::move(item));
  }
  return json;
}

TrainHistory history_from_json(const nlohmann::ordered_json& json) {
  TrainHistory history;
  for (const auto& item : json.at("points")) {
    history.points.push_back(
        {item.at(0).get<int64_t>(), item.at(1).get<double>(), item.at(2).get<double>()});
  }
  for (const auto& item : json.at("validations")) {
    TrainHistory::Validation validation{
        item.at("step").get<int64_t>(), item.at("loss").get<double>(), {}};
    if (item.contains("metrics")) {
      for (const auto& [name, value] : item.at("metrics").items()) {
        // JSON has no NaN: a metric that was one is null.
        validation.metrics.emplace_back(
            name, value.is_null() ? std::numeric_limits<double>::quiet_NaN() : value.get<double>());
      }
    }
    history.validations.push_back(std::move(validation));
  }
  return history;
}

}  // namespace lowrank
