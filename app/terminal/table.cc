#include "app/terminal/table.h"

#include <fmt/format.h>
#include <lowrank/error.h>
#include <lowrank/io/printable.h>

#include <algorithm>
#include <utility>

namespace lowrank::app {
namespace {

constexpr size_t kGap = 2;

}  // namespace

Table::Table(std::vector<std::string> header) { rows_.push_back(std::move(header)); }

void Table::add(std::vector<std::string> row) {
  if (row.size() != rows_.front().size()) {
    fail<ArgumentError>("table", fmt::format("a row must have {} cells", rows_.front().size()),
                        fmt::format("{}", row.size()));
  }
  for (auto& cell : row) cell = printable(cell);
  rows_.push_back(std::move(row));
}

void Table::rule() { rows_.emplace_back(); }

std::string Table::text(int width) const {
  std::vector<size_t> widths(rows_.front().size(), 0);
  for (const auto& row : rows_) {
    for (size_t i = 0; i < row.size(); ++i)
      widths[i] = std::max(widths[i], terminal_columns(row[i]));
  }
  size_t total = kGap * (widths.size() - 1);
  for (const auto column : widths) total += column;
  const bool is_broken = width > 0 && total > static_cast<size_t>(width) && widths.size() > 1;
  if (is_broken) total -= widths.front();
  std::string text;
  for (const auto& row : rows_) {
    std::string line;
    if (row.empty()) line.assign(total, '-');
    for (size_t i = 0; i < row.size(); ++i) {
      const size_t padding = widths[i] - terminal_columns(row[i]);
      if (i > 0) line.append(kGap + padding, ' ');
      line += row[i];
      if (i == 0) line.append(is_broken ? "\n" : std::string(padding, ' '));
    }
    line.erase(line.find_last_not_of(' ') + 1);
    text += line;
    text += '\n';
  }
  return text;
}

std::string counted(int64_t count, const std::string& unit) {
  return with_thousands(count) + " " + unit + (count == 1 ? "" : "s");
}

std::string with_thousands(int64_t number) {
  const auto digits = fmt::format("{}", number);
  const size_t first = number < 0 ? 1 : 0;
  std::string text;
  for (size_t i = 0; i < digits.size(); ++i) {
    if (i > first && (digits.size() - i) % 3 == 0) text += ',';
    text += digits[i];
  }
  return text;
}

}  // namespace lowrank::app
