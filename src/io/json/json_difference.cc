#include <lowrank/io/json_difference.h>

#include <nlohmann/json.hpp>

namespace lowrank {
namespace {

using Json = nlohmann::json;

std::string text_at(const Json& value, const Json::json_pointer& field) {
  constexpr size_t kMost = 80;
  if (!value.contains(field)) return "nothing";
  return value.at(field).dump(-1, ' ', /*ensure_ascii=*/true).substr(0, kMost);
}

/// Returns the pointer "/train/steps" as "train.steps".
std::string dotted(const Json::json_pointer& field) {
  auto path = field.to_string();
  if (path.empty()) return "the value";
  path.erase(0, 1);
  for (auto& c : path) c = c == '/' ? '.' : c;
  return path;
}

}  // namespace

std::optional<JsonDifference> first_difference(const Json& one, const Json& other) {
  const auto changes = Json::diff(one, other);
  if (changes.empty()) return std::nullopt;
  Json::json_pointer field(changes[0].at("path").get<std::string>());
  // Show a list as a whole, not the element that differs.
  while (!field.empty() && one.at(field.parent_pointer()).is_array()) field.pop_back();
  return JsonDifference{dotted(field), text_at(one, field), text_at(other, field)};
}

}  // namespace lowrank
