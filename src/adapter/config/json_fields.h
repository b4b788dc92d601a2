#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

namespace lowrank {

/// Reads the fields of an untrusted JSON object by name and type. null counts as absent. All of
/// these functions throw FileError that names the file and the field.
class JsonFields {
 public:
  using Json = nlohmann::ordered_json;

  JsonFields(const Json& object, const std::filesystem::path& file);

  [[noreturn]] void wrong(const std::string& required, const std::string& found,
                          const std::string& hint = "") const;

  const Json* find(const char* field) const;
  /// The fields of a value that is itself an object.
  JsonFields below(const Json& value) const { return {value, file_}; }
  bool flag(const char* field, bool otherwise = false) const;
  int64_t whole_number(const char* field, int64_t otherwise) const;
  double number(const char* field, double otherwise) const;
  std::string text(const char* field, const std::string& otherwise) const;
  /// A list of strings. With `alone`, a single string counts as a list of one, as in PEFT.
  std::vector<std::string> names(const char* field, bool alone = false) const;
  /// A list of whole numbers, or a single one.
  std::vector<int64_t> whole_numbers(const char* field) const;
  /// Lists of whole numbers by name; a list without a name gets the name "".
  std::vector<std::pair<std::string, std::vector<int64_t>>> numbers_by_name(
      const char* field) const;
  std::vector<std::pair<std::string, int64_t>> rank_pattern(const char* field) const;
  std::vector<std::pair<std::string, double>> alpha_pattern(const char* field) const;

 private:
  const Json* find_object(const char* field) const;
  std::vector<int64_t> whole_numbers(const Json& array, const char* field) const;

  const Json& json_;
  const std::filesystem::path& file_;
};

}  // namespace lowrank
