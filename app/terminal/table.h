#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace lowrank::app {

/// Text in aligned columns: the first column to the left, the others to the right. Control
/// characters in cells are shown as `printable` shows them.
class Table {
 public:
  explicit Table(std::vector<std::string> header);

  /// Throws ArgumentError where the number of cells is not the header's.
  void add(std::vector<std::string> row);
  /// A line of dashes before the next row.
  void rule();

  /// One line a row, two blanks between columns, no blanks at the ends of lines.
  std::string text() const;

 private:
  std::vector<std::vector<std::string>> rows_;  // an empty row is a rule
};

/// "2,807,010".
std::string with_thousands(int64_t number);

}  // namespace lowrank::app
