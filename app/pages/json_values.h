#pragma once

#include <cstddef>
#include <functional>
#include <initializer_list>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

/// Values in JSON that somebody else may have written, or an older version. None of these throws.
namespace lowrank::app {

/// Follows keys from object to object; null where one is missing.
const nlohmann::ordered_json& value_at(const nlohmann::ordered_json& json,
                                       std::initializer_list<const char*> keys);

/// The number; NaN for anything else.
double number_in(const nlohmann::ordered_json& json);
/// The numbers of an array; NaN for what is none, nothing for anything but an array.
std::vector<double> numbers_in(const nlohmann::ordered_json& json);
/// A text as it is, anything else as JSON; a dash for null. A long one is cut.
std::string text_in(const nlohmann::ordered_json& json);

/// The objects of an array, of which a page shows the first ones. They refer to the array.
struct Objects {
  std::vector<std::reference_wrapper<const nlohmann::ordered_json>> shown;
  size_t more = 0;  ///< that are not shown
};

/// Returns the objects in an array, and none of anything else.
Objects objects_in(const nlohmann::ordered_json& json, size_t most);

/// A number with four significant digits; a dash for NaN.
std::string figure(double value);
/// A whole number with thousands separators; a dash for NaN.
std::string count(double value);

}  // namespace lowrank::app
