#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace lowrank::app {

/// A text table. The first column is aligned to the left, the others to the right. Control
/// characters in cells are escaped by `printable`.
class Table {
 public:
  explicit Table(std::vector<std::string> header);

  /// Throws ArgumentError if the row does not have as many cells as the header.
  void add(std::vector<std::string> row);
  /// Adds a line of dashes before the next row.
  void rule();

  /// Returns one line per row, with two spaces between columns and no trailing spaces. If that is
  /// wider than `width` (0: any width fits), the first cell of each row has a line of its own.
  std::string text(int width = 0) const;

 private:
  std::vector<std::vector<std::string>> rows_;  // an empty row stands for a line of dashes
};

/// Formats a number with thousands separators: "2,807,010".
/// Returns "1 step", "2,000 steps".
std::string counted(int64_t count, const std::string& unit);

std::string with_thousands(int64_t number);

}  // namespace lowrank::app
