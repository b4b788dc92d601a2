#pragma once

#include <lowrank/error.h>
#include <lowrank/export.h>

#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>

namespace lowrank {

/// The place where two JSON values differ, for messages.
struct JsonDifference {
  std::string field;  ///< "train.steps"; "the value" if the values differ as a whole
  std::string one;    ///< as JSON text, shortened; "nothing" if only the other has the field
  std::string other;
};

/// Returns the first field that differs, or nullopt if the values are equal.
LOWRANK_API std::optional<JsonDifference> first_difference(const nlohmann::json& one,
                                                           const nlohmann::json& other);

/// Throws E if the options that were `given` differ from those that `file` holds (`held`). The
/// message names the first option that differs.
template <class E>
void require_same_options(const nlohmann::json& held, const nlohmann::json& given,
                          const std::string& file) {
  const auto difference = first_difference(held, given);
  if (!difference) return;
  fail<E>("resume", difference->field + " must be " + difference->one + ", as in \"" + file + "\"",
          difference->other, "Give the options that the run was started with.");
}

}  // namespace lowrank
