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
  constexpr size_t kLongest = 1000;  // bytes; a page shows names and short remarks
  if (json.is_null()) return "–";
  auto text = json.is_string() ? json.get<std::string>() : to_text(json, -1);
  if (text.size() <= kLongest) return text;
  size_t end = kLongest;
  const auto is_inside = [&](size_t i) { return (static_cast<unsigned char>(text[i]) >> 6) == 2; };
  while (end > 0 && is_inside(end)) --end;  // not within a character of UTF-8
  return text.substr(0, end) + "…";
}

Objects objects_in(const Json& json, size_t most) {
  Objects objects;
  if (!json.is_array()) return objects;
  for (const auto& item : json) {
    if (!item.is_object()) continue;
    if (objects.shown.size() < most) {
      objects.shown.emplace_back(item);
    } else {
      ++objects.more;
    }
  }
  return objects;
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
