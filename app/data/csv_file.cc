#include "app/data/csv_file.h"

#include <ATen/ATen.h>
#include <csv.h>
#include <fmt/format.h>
#include <lowrank/error.h>
#include <lowrank/io/file_bytes.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "app/data/labels.h"

namespace lowrank::app {
namespace {

constexpr uint64_t kLongestCsv = uint64_t{4} << 30;

/// Returns whether this is a number with a comma for the point, like "-1,5".
bool has_decimal_comma(std::string_view text) {
  const auto comma = text.find(',');
  return comma != std::string_view::npos && comma > 0 && comma + 1 < text.size() &&
         text.find(',', comma + 1) == std::string_view::npos &&
         text.find_first_not_of("+-0123456789,") == std::string_view::npos;
}

/// Takes the fields and rows that libcsv finds.
class CsvReader {
 public:
  CsvReader(std::string name, const DataSource& source) : name_(std::move(name)), source_(source) {}

  /// What follows stands in this line of the file, counted from 1.
  void begin_line(size_t line) { line_ = line; }

  void take_field(std::string_view text) {
    const auto column = column_++;
    if (columns_.empty()) return void(header_.emplace_back(text));
    if (column >= header_.size()) return;  // take_row() refuses the line
    if (column == label_) return void(labels_.emplace_back(text));
    if (places_[column] < 0) return;
    row_[static_cast<size_t>(places_[column])] = number(text, column);
  }

  void take_row() {
    const auto fields = column_;
    column_ = 0;
    if (fields == 0) return;
    if (columns_.empty()) return take_header();
    ++rows_;
    if (fields != header_.size()) {
      fail_at_line(fmt::format("{} columns, as its first line", header_.size()),
                   fmt::format("{}", fields),
                   fields > header_.size() ? "Text that holds the separator must be quoted."
                                           : "Complete the line, or remove it.");
    }
    for (const double value : row_) numbers_.push_back(static_cast<float>(value));
  }

  Dataset result() {
    if (rows_ == 0) {
      fail<FileError>(
          "data", fmt::format("\"{}\" must hold column names and then at least one example", name_),
          columns_.empty() ? "nothing" : "column names alone");
    }
    require_no_decimal_commas();
    Dataset dataset;
    dataset.columns = columns_;
    dataset.inputs =
        at::tensor(numbers_, at::kFloat).view({rows_, static_cast<int64_t>(columns_.size())});
    if (label_ == header_.size()) {
      set_no_labels(dataset, source_);
      return dataset;
    }
    set_labels(dataset, labels_, source_.class_names, source_,
               fmt::format("column \"{}\" of \"{}\"", source_.label_column, name_));
    for (const auto& name : dataset.class_names) require_utf8(name);
    return dataset;
  }

 private:
  [[noreturn]] void fail_at_line(const std::string& required, const std::string& found,
                                 const std::string& hint = {}) const {
    fail<FileError>("data", fmt::format("line {} of \"{}\" must hold {}", line_, name_, required),
                    found, hint);
  }

  void take_header() {
    for (const auto& name : header_) require_utf8(name);
    const auto found = std::find(header_.begin(), header_.end(), source_.label_column);
    if (found == header_.end() && !source_.may_lack_labels) {
      fail<ArgumentError>(
          "data",
          fmt::format("--label-column must name a column of \"{}\", whose first "
                      "line names them",
                      name_),
          fmt::format("\"{}\", which is none of {}", source_.label_column, list_names(header_)),
          did_you_mean(source_.label_column, header_));
    }
    label_ = static_cast<size_t>(found - header_.begin());
    columns_ = source_.columns.empty() ? columns_to_take() : source_.columns;
    if (columns_.empty()) {
      fail_at_line("a column to learn from beside that of the labels", "none");
    }
    std::unordered_map<std::string, size_t> place_of;
    for (size_t i = 0; i < header_.size(); ++i) {
      if (place_of.emplace(header_[i], i).second) continue;
      fail_at_line("different column names", fmt::format("\"{}\" twice", header_[i]));
    }
    places_.assign(header_.size(), -1);
    for (size_t i = 0; i < columns_.size(); ++i) {
      const auto place = place_of.find(columns_[i]);
      if (place == place_of.end() || place->second == label_) {
        fail_at_line(fmt::format("the column \"{}\", which the model knows", columns_[i]),
                     list_names(header_));
      }
      places_[place->second] = static_cast<int64_t>(i);
    }
    row_.resize(columns_.size());
  }

  const std::string& label_name() const { return source_.label_column; }

  /// All columns but that of the labels and those that are dropped.
  std::vector<std::string> columns_to_take() const {
    const auto& dropped = source_.dropped_columns;
    for (const auto& name : dropped) {
      if (name != label_name() &&
          std::find(header_.begin(), header_.end(), name) != header_.end()) {
        continue;
      }
      fail<ArgumentError>(
          "data", fmt::format("--drop-columns must name columns of \"{}\" without labels", name_),
          fmt::format("\"{}\"", name), did_you_mean(name, header_));
    }
    std::vector<std::string> columns;
    for (const auto& name : header_) {
      const bool is_dropped = std::find(dropped.begin(), dropped.end(), name) != dropped.end();
      if (name != label_name() && !is_dropped) columns.push_back(name);
    }
    return columns;
  }

  double number(std::string_view text, size_t column) const {
    while (text.starts_with(' ')) text.remove_prefix(1);
    while (text.ends_with(' ')) text.remove_suffix(1);
    double value = 0;
    const bool has_plus = text.starts_with('+') && !text.starts_with("+-");
    const auto* begin = text.data() + (has_plus ? 1 : 0);
    const auto* end = text.data() + text.size();
    const auto [stop, error] = std::from_chars(begin, end, value);
    // Out of range are 1e999, which is not finite, and 1e-999, which is 0.
    if (error == std::errc::result_out_of_range)
      value = std::strtod(std::string(text).c_str(), nullptr);
    if (error != std::errc::invalid_argument && stop == end &&
        std::isfinite(static_cast<float>(value))) {
      return value;
    }
    fail<FileError>("data",
                    fmt::format("line {} of \"{}\" must hold a finite number in column \"{}\"",
                                line_, name_, header_[column]),
                    text.empty() ? "nothing" : fmt::format("\"{}\"", text), hint_on(text));
  }

  static const char* hint_on(std::string_view text) {
    if (has_decimal_comma(text)) return "Decimal commas are not read: write points.";
    if (text.empty()) {
      return "Fill the cell, remove the line, or leave the column out with --drop-columns NAME.";
    }
    return "Leave a column that is no input out with --drop-columns NAME.";
  }

  void require_utf8(const std::string& text) const {
    try {
      static_cast<void>(nlohmann::json(text).dump());
    } catch (const nlohmann::json::type_error&) {
      fail<FileError>("data", fmt::format("\"{}\" must be UTF-8", name_),
                      fmt::format("\"{}\"", text), "iconv -f latin1 -t utf8 converts most others.");
    }
  }

  /// Numbers with decimal commas would become as many classes.
  void require_no_decimal_commas() const {
    const auto found = std::find_if(labels_.begin(), labels_.end(), has_decimal_comma);
    if (!source_.class_names.empty() || found == labels_.end()) return;
    fail<FileError>(
        "data", fmt::format("the labels in \"{}\" must be names, or numbers with points", name_),
        fmt::format("\"{}\"", *found), "Decimal commas are not read.");
  }

  std::string name_;
  const DataSource& source_;
  std::vector<std::string> header_, columns_;
  std::vector<int64_t> places_;  // of each column among the inputs; -1: left out
  size_t label_ = 0;             // as many as there are columns: the table has no labels
  size_t column_ = 0, line_ = 0;
  int64_t rows_ = 0;
  std::vector<double> row_;
  std::vector<float> numbers_;
  std::vector<std::string> labels_;
};

/// libcsv is C, through which no exception may pass.
struct Callbacks {
  CsvReader& reader;
  std::exception_ptr failure = nullptr;

  template <class Take>
  void guarded(const Take& take) {
    if (failure != nullptr) return;
    try {
      take();
    } catch (...) {
      failure = std::current_exception();
    }
  }
  static void field(void* text, size_t size, void* self) {
    auto& own = *static_cast<Callbacks*>(self);
    own.guarded([&] { own.reader.take_field({static_cast<const char*>(text), size}); });
  }
  static void row(int /*end*/, void* self) {
    auto& own = *static_cast<Callbacks*>(self);
    own.guarded([&] { own.reader.take_row(); });
  }
};

/// Returns the separator that the first line holds most of: spreadsheets write semicolons where the
/// comma is the decimal mark, and others tabs.
char separator_of(std::string_view text) {
  std::string line;  // without what is quoted
  bool is_quoted = false;
  for (const char c : text.substr(0, text.find('\n'))) {
    if (c == '"') is_quoted = !is_quoted;
    if (!is_quoted) line += c;
  }
  char best = ',';
  for (const char c : {';', '\t'}) {
    if (std::count(line.begin(), line.end(), c) > std::count(line.begin(), line.end(), best))
      best = c;
  }
  return best;
}

/// Parses the text line by line, so that messages can name the line. Returns whether it is CSV.
bool parse(csv_parser& parser, std::string_view text, CsvReader& reader, Callbacks& callbacks) {
  const char end_of_line = text.find('\n') == std::string_view::npos ? '\r' : '\n';
  size_t line = 0;
  while (!text.empty()) {
    const auto size = std::min(text.find(end_of_line), text.size() - 1) + 1;
    reader.begin_line(++line);
    const auto parsed =
        csv_parse(&parser, text.data(), size, &Callbacks::field, &Callbacks::row, &callbacks);
    if (parsed != size) return false;
    text.remove_prefix(size);
  }
  return csv_fini(&parser, &Callbacks::field, &Callbacks::row, &callbacks) == 0;
}

}  // namespace

Dataset read_csv(const std::filesystem::path& file, const DataSource& source) {
  const auto bytes = read_file(file, kLongestCsv);
  std::string_view text = bytes;
  if (text.starts_with("\xef\xbb\xbf")) text.remove_prefix(3);
  CsvReader reader(file.string(), source);
  Callbacks callbacks{reader};
  csv_parser parser{};
  csv_init(&parser, CSV_STRICT | CSV_STRICT_FINI);
  csv_set_delim(&parser, static_cast<unsigned char>(separator_of(text)));
  const std::unique_ptr<csv_parser, decltype(&csv_free)> freed(&parser, &csv_free);
  const bool parsed = parse(parser, text, reader, callbacks);
  if (callbacks.failure != nullptr) std::rethrow_exception(callbacks.failure);
  if (!parsed) {
    fail<FileError>("data", fmt::format("\"{}\" must be a CSV file (RFC 4180)", file.string()),
                    fmt::format("\"{}\"", csv_strerror(csv_error(&parser))),
                    "Is a quotation mark missing?");
  }
  auto dataset = reader.result();
  dataset.name = file.filename().string();
  if (dataset.has_labels) dataset.label_column = source.label_column;
  return dataset;
}

}  // namespace lowrank::app
