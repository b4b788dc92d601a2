#include <ATen/ATen.h>
#include <fmt/format.h>
#include <lowrank/error.h>
#include <lowrank/io/file_bytes.h>
#include <lowrank/io/text_matrix.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <optional>
#include <vector>

#include "io/files/system_file.h"

namespace lowrank {
namespace {

constexpr uint64_t kMostTextBytes = 4'000'000'000;
constexpr std::string_view kBlanks = " \t\r\v\f";
constexpr char kWhiteSpace = ' ';  // as a separator: any number of blanks

std::string_view trimmed(std::string_view text) {
  const size_t begin = text.find_first_not_of(kBlanks);
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(kBlanks) - begin + 1);
}

/// Splits `text` into fields. next() takes the first field and its separator off `text`; `ended` is
/// set once the last field has been taken.
struct Fields {
  std::string_view text;
  char separator;
  bool ended = false;

  std::string_view next() {
    const size_t end =
        separator == kWhiteSpace ? text.find_first_of(kBlanks) : text.find(separator);
    const auto field = trimmed(text.substr(0, end));
    ended = end == std::string_view::npos;
    text = ended ? std::string_view{} : text.substr(end + 1);
    if (separator == kWhiteSpace) text = trimmed(text);
    return field;
  }
};

char separator_of(std::string_view line) {
  for (const char separator : {';', ','}) {
    if (line.find(separator) != std::string_view::npos) return separator;
  }
  // "1\t 2" is a table that was aligned by hand. A table that is separated by tabs can have empty
  // fields, and has no blanks.
  const bool tabs = line.find('\t') != std::string_view::npos;
  return tabs && line.find(' ') == std::string_view::npos ? '\t' : kWhiteSpace;
}

std::optional<double> number(std::string_view field) {
  if (field.size() > 1 && field[0] == '+' && field[1] != '-') field.remove_prefix(1);
  double value = 0;
  const char* end = field.data() + field.size();
  const auto [stop, error] = std::from_chars(field.data(), end, value);
  if (stop != end || field.empty()) return std::nullopt;
  if (error == std::errc()) return value;
  // Outside of float64's range: numbers that are too small become 0 or nearly 0, numbers that are
  // too large are refused.
  value = std::strtod(std::string(field).c_str(), nullptr);
  if (error == std::errc::result_out_of_range && std::abs(value) < 1) return value;
  return std::nullopt;
}

/// Returns whether a field begins like a number, even if it is not one: "2,5", "\"1\"".
bool begins_as_number(std::string_view field) {
  for (const std::string_view before : {"\"'", "+-", "."}) {
    if (!field.empty() && before.find(field[0]) != std::string_view::npos) field.remove_prefix(1);
  }
  return !field.empty() && field[0] >= '0' && field[0] <= '9';
}

void require_text(std::string_view text, const std::string& name, size_t from = 0) {
  const size_t zero = text.find('\0', from);
  if (zero == std::string_view::npos) return;
  fail<FileError>("text matrix", fmt::format("{} must be text", name),
                  fmt::format("a zero byte at byte {}", zero),
                  "A binary file needs its extension: .npy or .safetensors.");
}

class TextMatrix {
 public:
  TextMatrix(std::string_view text, const std::string& name) : text_(text), name_(name) {}

  at::Tensor parse() {
    if (text_.starts_with("\xEF\xBB\xBF")) text_.remove_prefix(3);
    require_text(text_, name_);
    for (; !text_.empty(); ++line_) parse_line(next_line());
    if (rows_ == 0) {
      fail<FileError>("text matrix", fmt::format("{} must hold at least one row of numbers", name_),
                      "none");
    }
    require_no_index();
    return at::tensor(values_, at::kDouble).view({rows_, columns_});
  }

 private:
  std::string_view next_line() {
    const size_t end = text_.find('\n');
    const auto line = text_.substr(0, end);
    text_ = end == std::string_view::npos ? std::string_view{} : text_.substr(end + 1);
    return trimmed(line.substr(0, line.find('#')));
  }

  void parse_line(std::string_view line) {
    if (line.empty()) return;
    if (!separator_) {
      separator_ = separator_of(line);
      if (is_header(line)) {
        for (Fields fields{line, *separator_}; !fields.ended; ++header_fields_) {
          const auto field = fields.next();
          if (header_fields_ == 0) first_is_unnamed_ = field.empty() || field == "\"\"";
        }
        return;
      }
    }
    int64_t column = 0;
    for (Fields fields{line, *separator_}; !fields.ended;) {
      const auto field = fields.next();
      const auto value = number(field);
      ++column;
      if (!value) refuse(field, column);
      values_.push_back(*value);
    }
    if (rows_ == 0) columns_ = column;
    if (rows_ == 0 && header_fields_ > 0 && header_fields_ != column) {
      fail<FileError>(
          "text matrix",
          fmt::format("the header of {} must have as many names as the rows have numbers", name_),
          fmt::format("{} names and {} numbers", header_fields_, column),
          "Write the file without an index of its rows (pandas: index=False; R: "
          "row.names=FALSE). A title begins with #.");
    }
    if (column != columns_) {
      fail<FileError>("text matrix",
                      fmt::format("every row of {} must have {} column{}, as its first", name_,
                                  columns_, columns_ == 1 ? "" : "s"),
                      fmt::format("{} in line {}", column, line_));
    }
    ++rows_;
  }

  /// Returns whether the first line is a header, which has no numbers. A row with numbers in a
  /// wrong form is not a header, and is refused.
  bool is_header(std::string_view line) const {
    for (Fields fields{line, *separator_}; !fields.ended;) {
      const auto field = fields.next();
      if (number(field) || begins_as_number(field)) return false;
    }
    return true;
  }

  [[noreturn]] void refuse(std::string_view field, int64_t column) const {
    const bool comma = *separator_ != ',' && field.find(',') != std::string_view::npos;
    fail<FileError>(
        "text matrix",
        fmt::format("line {}, column {} of {} must be a number", line_, column, name_),
        field.empty() ? "nothing" : io::quoted(field),
        comma ? "Decimal commas are not read: write a point."
        : field.empty() && line_ == 1 && column == 1
            ? "If pandas wrote the file, write it with to_csv(index=False, header=False)."
            : "");
  }

  /// pandas writes an index before the first column, under an empty name in the header.
  void require_no_index() const {
    if (!first_is_unnamed_) return;
    fail<FileError>("text matrix",
                    fmt::format("{} must hold the numbers of the matrix alone", name_),
                    "a first column without a name, which is how pandas writes an index",
                    "Write the file with to_csv(index=False).");
  }

  std::string_view text_;
  const std::string& name_;
  std::optional<char> separator_;
  int64_t header_fields_ = 0;
  bool first_is_unnamed_ = false;  // the header's first field is empty
  int64_t line_ = 1;
  int64_t rows_ = 0;
  int64_t columns_ = 0;
  std::vector<double> values_;
};

}  // namespace

at::Tensor parse_text_matrix(std::string_view text, const std::string& name) {
  return TextMatrix(text, name).parse();
}

at::Tensor read_text_matrix(const std::filesystem::path& path) {
  const auto name = io::quoted(path);
  size_t checked = 0;  // so that /dev/zero is not read to the limit
  const auto check = [&](std::string_view so_far) {
    require_text(so_far, name, checked);
    checked = so_far.size();
  };
  return parse_text_matrix(read_file(path, kMostTextBytes, Pipes::kRead, check), name);
}

}  // namespace lowrank
