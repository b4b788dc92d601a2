#include "adapter/config/json_fields.h"

#include <fmt/format.h>
#include <lowrank/error.h>

namespace lowrank {
namespace {

/// Returns the start of a value, which is enough to recognise it.
std::string shown(const nlohmann::ordered_json& value) {
  auto text = value.dump(-1, ' ', /*ensure_ascii=*/true);
  if (text.size() > 60) text.replace(60, std::string::npos, "...");
  return text;
}

/// Returns whether the value is a whole number that fits into 64 bits with a sign.
bool is_whole(const nlohmann::ordered_json& value) {
  return value.is_number_integer() &&
         (!value.is_number_unsigned() || value.get<uint64_t>() <= uint64_t{INT64_MAX});
}

}  // namespace

JsonFields::JsonFields(const Json& object, const std::filesystem::path& file)
    : json_(object), file_(file) {
  if (!json_.is_object()) wrong("a JSON object", fmt::format("JSON of type {}", json_.type_name()));
}

void JsonFields::wrong(const std::string& required, const std::string& found,
                       const std::string& hint) const {
  fail<FileError>("load", fmt::format("\"{}\" must hold {}", file_.string(), required), found,
                  hint);
}

const JsonFields::Json* JsonFields::find(const char* field) const {
  const auto it = json_.find(field);
  return it == json_.end() || it->is_null() ? nullptr : &*it;
}

bool JsonFields::flag(const char* field, bool otherwise) const {
  const auto* value = find(field);
  if (value == nullptr) return otherwise;
  if (!value->is_boolean()) wrong(fmt::format("true or false as {}", field), shown(*value));
  return value->get<bool>();
}

int64_t JsonFields::whole_number(const char* field, int64_t otherwise) const {
  const auto* value = find(field);
  if (value == nullptr) return otherwise;
  if (!is_whole(*value)) wrong(fmt::format("a whole number as {}", field), shown(*value));
  return value->get<int64_t>();
}

double JsonFields::number(const char* field, double otherwise) const {
  const auto* value = find(field);
  if (value == nullptr) return otherwise;
  if (!value->is_number()) wrong(fmt::format("a number as {}", field), shown(*value));
  return value->get<double>();
}

std::string JsonFields::text(const char* field, const std::string& otherwise) const {
  const auto* value = find(field);
  if (value == nullptr) return otherwise;
  if (!value->is_string()) wrong(fmt::format("a string as {}", field), shown(*value));
  return value->get<std::string>();
}

std::vector<std::string> JsonFields::names(const char* field, bool alone) const {
  const auto* value = find(field);
  if (value == nullptr) return {};
  if (alone && value->is_string()) return {value->get<std::string>()};
  std::vector<std::string> names;
  const auto required = fmt::format("a list of names as {}", field);
  if (!value->is_array()) wrong(required, shown(*value));
  for (const auto& name : *value) {
    if (!name.is_string()) wrong(required, shown(name) + " in it");
    names.push_back(name.get<std::string>());
  }
  return names;
}

std::vector<int64_t> JsonFields::whole_numbers(const Json& array, const char* field) const {
  std::vector<int64_t> numbers;
  const auto required = fmt::format("whole numbers as {}", field);
  if (!array.is_array()) wrong(required, shown(array));
  for (const auto& number : array) {
    if (!is_whole(number)) wrong(required, shown(number) + " in it");
    numbers.push_back(number.get<int64_t>());
  }
  return numbers;
}

std::vector<int64_t> JsonFields::whole_numbers(const char* field) const {
  const auto* value = find(field);
  if (value == nullptr) return {};
  if (is_whole(*value)) return {value->get<int64_t>()};
  return whole_numbers(*value, field);
}

std::vector<std::pair<std::string, std::vector<int64_t>>> JsonFields::numbers_by_name(
    const char* field) const {
  const auto* value = find(field);
  if (value == nullptr || (value->is_structured() && value->empty())) return {};
  if (!value->is_object()) return {{"", whole_numbers(*value, field)}};
  std::vector<std::pair<std::string, std::vector<int64_t>>> named;
  for (const auto& [name, numbers] : value->items()) {
    named.emplace_back(name, whole_numbers(numbers, field));
  }
  return named;
}

const JsonFields::Json* JsonFields::find_object(const char* field) const {
  const auto* value = find(field);
  if (value != nullptr && !value->is_object()) {
    wrong(fmt::format("an object of names and numbers as {}", field), shown(*value));
  }
  return value;
}

std::vector<std::pair<std::string, int64_t>> JsonFields::rank_pattern(const char* field) const {
  std::vector<std::pair<std::string, int64_t>> pattern;
  const auto* object = find_object(field);
  if (object == nullptr) return pattern;
  for (const auto& [key, value] : object->items()) {
    if (!is_whole(value)) {
      wrong(fmt::format("whole numbers in {}", field),
            fmt::format("{} for \"{}\"", shown(value), key));
    }
    pattern.emplace_back(key, value.get<int64_t>());
  }
  return pattern;
}

std::vector<std::pair<std::string, double>> JsonFields::alpha_pattern(const char* field) const {
  std::vector<std::pair<std::string, double>> pattern;
  const auto* object = find_object(field);
  if (object == nullptr) return pattern;
  for (const auto& [key, value] : object->items()) {
    if (!value.is_number()) {
      wrong(fmt::format("numbers in {}", field), fmt::format("{} for \"{}\"", shown(value), key));
    }
    pattern.emplace_back(key, value.get<double>());
  }
  return pattern;
}

}  // namespace lowrank
