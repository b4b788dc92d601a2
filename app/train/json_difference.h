#pragma once

#include <lowrank/error.h>

#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>

namespace lowrank::app {

/// Where two JSON values differ, for messages.
struct JsonDifference {
  std::string field;  ///< "train.steps"; "the value" where nothing of them is alike
  std::string one;    ///< as JSON text, shortened; "nothing" where only the other has the field
  std::string other;
};

/// The first field that differs; none where the values are equal.
std::optional<JsonDifference> first_difference(const nlohmann::json& one,
                                               const nlohmann::json& other);

/// Throws E where the options of a run differ from those that `file` holds, by the first that does.
template <class E>
void require_same_options(const nlohmann::json& held, const nlohmann::json& given,
                          const std::string& file) {
  const auto difference = first_difference(held, given);
  if (!difference) return;
  fail<E>("resume", difference->field + " must be " + difference->one + ", as in \"" + file + "\"",
          difference->other, "Give the options the run was started with.");
}

}  // namespace lowrank::app
