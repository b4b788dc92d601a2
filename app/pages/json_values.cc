#include "app/pages/json_values.h"

#include <fmt/format.h>
#include <lowrank/io/json.h>

#include <cmath>
#include <cstdint>
#include <limits>

#include "app/terminal/table.h"

namespace lowrank::app {

using Json = nlohmann::ordered_json;

const Json& value_at(const Json& json, std::initializer_list<const char*> keys) {
  static const Json null;
  const Json* value = &json;
  for (const char* key : keys) {
    if (!value->is_object()) return null;
    const auto found = value->find(key);
    if (found == value->end()) return null;
    value = &*found;
  }
  return *value;
}

double number_in(const Json& json) {
  return json.is_number() ? json.get<double>() : std::numeric_limits<double>::quiet_NaN();
}

std::vector<double> numbers_in(const Json& json) {
  std::vector<double> numbers;
  if (!json.is_array()) return numbers;
  for (const auto& item : json) numbers.push_back(number_in(item));
  return numbers;
}

std::string text_in(const Json& json) {
  return json.is_string() ? json.get<std::string>() : to_text(json, -1);
}

std::string figure(double value) {
  return std::isfinite(value) ? fmt::format("{:.4g}", value) : std::string("–");
}

std::string count(double value) {
  constexpr double kLargest = 9e15;
  if (!std::isfinite(value) || std::abs(value) > kLargest) return "–";
  return with_thousands(static_cast<int64_t>(value));
}

}  // namespace lowrank::app
