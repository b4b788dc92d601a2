#pragma once

#include <lowrank/export.h>

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <utility>
#include <vector>

namespace lowrank {

/// Figures by name, in the order in which they are to be shown.
using Metrics = std::vector<std::pair<std::string, double>>;

/// The course of a run, which checkpoints keep: about a thousand points, however long it is.
struct TrainHistory {
  struct Point {
    int64_t step = 0;          ///< steps done
    double loss = 0;           ///< mean over the steps since the point before
    double learning_rate = 0;  ///< of this step
  };
  struct Validation {
    int64_t step = 0;
    double loss = 0;
    Metrics metrics{};
  };
  std::vector<Point> points{};
  std::vector<Validation> validations{};
};

/// Returns {"points": [[step, loss, learning_rate], ...], "validations": [{"step": ..., "loss":
/// ..., "metrics": {...}}, ...]}.
LOWRANK_API nlohmann::ordered_json to_json(const TrainHistory& history);
/// Reads what to_json() returns. Throws nlohmann::json::exception for anything else.
LOWRANK_API TrainHistory history_from_json(const nlohmann::ordered_json& json);

}  // namespace lowrank
