#include "io/arrays/npy_header.h"

#include <fmt/ranges.h>
#include <lowrank/error.h>

#include <cctype>
#include <charconv>
#include <limits>
#include <optional>

#include "io/arrays/little_endian.h"
#include "io/files/system_file.h"

namespace lowrank::io {
namespace {

constexpr uint64_t kLongestHeader = 65536;  // NumPy's own limit is 10000
constexpr size_t kNumpysDimensions = 64;    // NumPy 2's limit

/// Parses a header, which is one Python literal: a dict of strings, booleans and a tuple. It
/// neither nests nor recurses, whatever the file holds.
class HeaderParser {
 public:
  HeaderParser(std::string_view text, const std::filesystem::path& path)
      : text_(text), path_(path) {}

  NpyHeader parse() {
    expect('{');
    while (!accept('}')) {
      parse_entry();
      if (accept(',')) continue;
      expect('}');
      break;
    }
    skip_blanks();
    if (at_ < text_.size()) refuse("nothing after the closing brace", rest());
    if (!seen_descr_ || !seen_order_ || !seen_shape_) {
      refuse("the keys descr, fortran_order and shape", quoted(text_));
    }
    count_elements();
    return header_;
  }

 private:
  [[noreturn]] void refuse(const std::string& required, const std::string& found,
                           std::string_view hint = {}) const {
    fail<FileError>("npy", fmt::format("the header of {} must hold {}", quoted(path_), required),
                    found, hint);
  }

  std::string rest() const {
    if (at_ >= text_.size()) return "its end";
    return fmt::format("{} at byte {}", quoted(text_.substr(at_, 20)), at_);
  }

  void skip_blanks() {
    while (at_ < text_.size() && (text_[at_] == ' ' || text_[at_] == '\n')) ++at_;
  }

  bool accept(char c) {
    skip_blanks();
    if (at_ >= text_.size() || text_[at_] != c) return false;
    ++at_;
    return true;
  }

  void expect(char c) {
    if (!accept(c)) refuse(fmt::format("\"{}\" there", c), rest());
  }

  bool accept_word(std::string_view word) {
    skip_blanks();
    if (text_.substr(at_, word.size()) != word) return false;
    at_ += word.size();
    return true;
  }

  std::string_view parse_string() {
    skip_blanks();
    const char quote = at_ < text_.size() ? text_[at_] : '\0';
    if (quote != '\'' && quote != '"') refuse("a string there", rest());
    const size_t end = text_.find(quote, at_ + 1);
    if (end == std::string_view::npos) refuse("the end of a string", rest());
    const auto found = text_.substr(at_ + 1, end - at_ - 1);
    at_ = end + 1;
    return found;
  }

  void parse_entry() {
    const auto key = parse_string();
    bool* seen = key == "descr"           ? &seen_descr_
                 : key == "fortran_order" ? &seen_order_
                 : key == "shape"         ? &seen_shape_
                                          : nullptr;
    if (seen == nullptr) refuse("the keys descr, fortran_order and shape", quoted(key));
    if (*seen) refuse("each key once", fmt::format("{} twice", quoted(key)));
    *seen = true;
    expect(':');
    if (seen == &seen_descr_) return parse_descr();
    if (seen == &seen_shape_) return parse_shape();
    header_.fortran_order = accept_word("True");
    if (!header_.fortran_order && !accept_word("False")) refuse("True or False there", rest());
  }

  void parse_descr() {
    skip_blanks();
    if (at_ < text_.size() && text_[at_] == '[') {
      refuse("one dtype", "a structured dtype", "Save its fields as arrays of their own.");
    }
    const auto descr = parse_string();
    const char order = descr.empty() ? '\0' : descr[0];
    const bool ordered = order == '<' || order == '>' || order == '|' || order == '=';
    const auto type = descr.substr(ordered ? 1 : 0);
    if (!type.empty() && type[0] == 'O') {
      refuse("numbers", "an array of Python objects (a pickle)", "Pickles are never executed.");
    }
    static constexpr std::string_view kKnown[] = {"f2", "f4", "f8", "i1", "i2", "i4",
                                                  "i8", "u1", "u2", "u4", "u8", "b1"};
    bool known = false;
    for (const auto one : kKnown) known = known || one == type;
    if (!known) {
      refuse("a dtype of float16 to float64, int8 to int64, uint8 to uint64 or bool",
             quoted(descr));
    }
    header_.kind = type[0];
    header_.item_size = type[1] - '0';
    header_.big_endian = order == '>';
    if (header_.item_size > 1 && (!ordered || order == '|')) {
      refuse("a byte order with its dtype", quoted(descr));
    }
  }

  int64_t parse_dimension() {
    skip_blanks();
    int64_t value = -1;
    const char* begin = text_.data() + at_;
    const auto [end, error] = std::from_chars(begin, text_.data() + text_.size(), value);
    if (error != std::errc() || value < 0) refuse("whole dimensions that fit 64 bits", rest());
    at_ += static_cast<size_t>(end - begin);
    if (at_ < text_.size() && text_[at_] == 'L') ++at_;  // Python 2's long integers end in L
    return value;
  }

  void parse_shape() {
    expect('(');
    while (!accept(')')) {
      header_.shape.push_back(parse_dimension());
      if (header_.shape.size() > kNumpysDimensions) {
        refuse(fmt::format("at most {} dimensions", kNumpysDimensions), "more");
      }
      if (accept(',')) continue;
      if (header_.shape.size() == 1) refuse("a tuple as its shape", rest());
      expect(')');
      break;
    }
  }

  /// A dimension of zero does not hide an overflow of the others, because strides are computed from
  /// those.
  void count_elements() {
    int64_t bytes = header_.item_size;
    for (const int64_t dimension : header_.shape) {
      const int64_t factor = dimension == 0 ? 1 : dimension;
      if (bytes > std::numeric_limits<int64_t>::max() / factor) {
        refuse("a shape whose size fits 64 bits",
               fmt::format("({})", fmt::join(header_.shape, ", ")));
      }
      bytes *= factor;
      header_.count *= dimension;
    }
  }

  std::string_view text_;
  const std::filesystem::path& path_;
  size_t at_ = 0;
  NpyHeader header_;
  bool seen_descr_ = false;
  bool seen_order_ = false;
  bool seen_shape_ = false;
};

}  // namespace

NpyPrelude parse_npy_prelude(std::string_view bytes, const std::filesystem::path& path) {
  constexpr std::string_view kMagic = "\x93NUMPY";
  if (!bytes.starts_with(kMagic)) {
    fail<FileError>("npy", fmt::format("{} must begin as a NumPy array does", quoted(path)),
                    bytes.empty() ? "an empty file" : quoted(bytes.substr(0, 8)));
  }
  const int major = bytes.size() < 10 ? -1 : static_cast<unsigned char>(bytes[6]);
  const size_t width = major == 1 ? 2 : 4;
  if (major == -1 || bytes.size() < 8 + width) {
    fail<FileError>("npy", fmt::format("{} must hold a whole header", quoted(path)),
                    count_bytes(bytes.size()), "The file is cut short.");
  }
  if (major < 1 || major > 3) {
    fail<FileError>("npy", fmt::format("{} must be of format version 1, 2 or 3", quoted(path)),
                    fmt::format("version {}", major));
  }
  const NpyPrelude prelude{.begin = 8 + width, .length = little_endian(bytes.substr(8, width))};
  if (prelude.length > kLongestHeader) {
    fail<FileError>("npy",
                    fmt::format("the header of {} must be at most {} long", quoted(path),
                                count_bytes(kLongestHeader)),
                    count_bytes(prelude.length));
  }
  return prelude;
}

NpyHeader parse_npy_header(std::string_view text, const std::filesystem::path& path) {
  return HeaderParser(text, path).parse();
}

}  // namespace lowrank::io
