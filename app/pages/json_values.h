#pragma once

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
/// A text as it is, anything else as JSON.
std::string text_in(const nlohmann::ordered_json& json);

/// A number with four significant digits; a dash for NaN.
std::string figure(double value);
/// A whole number with thousands separators; a dash for NaN.
std::string count(double value);

}  // namespace lowrank::app
