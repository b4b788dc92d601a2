#pragma once

#include <lowrank/export.h>

#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>

namespace lowrank {

/// Where two JSON values differ, for messages.
struct JsonDifference {
  std::string field;  // "train.steps"; "the value" where nothing of them is alike
  std::string one;    // as JSON text, shortened; "nothing" where only the other has the field
  std::string other;
};

/// The first field that differs; none where the values are equal.
LOWRANK_API std::optional<JsonDifference> first_difference(const nlohmann::json& one,
                                                           const nlohmann::json& other);

}  // namespace lowrank
