#include "io/gguf/gguf_header.h"

#include <fmt/ranges.h>
#include <lowrank/error.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>

#include "io/arrays/little_endian.h"
#include "io/files/system_file.h"

namespace lowrank::io {
namespace {

constexpr const char* kGgufReader = "gguf";
constexpr uint32_t kMostGgufDimensions = 4;
constexpr uint64_t kAlignment = 32;  // where general.alignment says nothing else
constexpr uint64_t kLongestName = 65'535;

/// The types of values, by their numbers in the file.
enum ValueType : uint32_t {
  kUint8,
  kInt8,
  kUint16,
  kInt16,
  kUint32,
  kInt32,
  kFloat32,
  kBool,
  kString,
  kArray,
  kUint64,
  kInt64,
  kFloat64,
};

/// Bytes of a value; 0 for a string, an array, and a type that is not known.
uint64_t value_bytes(uint32_t type) {
  switch (type) {
    case kUint8:
    case kInt8:
    case kBool:
      return 1;
    case kUint16:
    case kInt16:
      return 2;
    case kUint32:
    case kInt32:
    case kFloat32:
      return 4;
    case kUint64:
    case kInt64:
    case kFloat64:
      return 8;
    default:
      return 0;
  }
}

/// Reads one header from its beginning to its end.
class GgufParser {
 public:
  GgufParser(std::string_view file, const std::filesystem::path& path)
      : file_(file), path_(quoted(path)) {}

  GgufHeader parse() {
    read_version();
    const auto tensors = number(8), values = number(8);
    for (uint64_t i = 0; i < values; ++i) read_entry();
    for (uint64_t i = 0; i < tensors; ++i) read_tensor();
    place_tensors();
    return std::move(header_);
  }

 private:
  void read_version() {
    if (take(4) != "GGUF") refuse(path_ + " must begin with \"GGUF\"", "other bytes");
    const auto version = static_cast<uint32_t>(number(4));
    if (version == 2 || version == 3) return;
    const bool is_swapped = version != 0 && (version & 0xFFFF) == 0;
    refuse(fmt::format("{} must have GGUF's version 2 or 3", path_),
           is_swapped ? std::string("a big-endian file") : fmt::format("version {}", version));
  }

  void read_entry() {
    const auto key = text(kLongestName);
    const auto type = static_cast<uint32_t>(number(4));
    what_ = fmt::format("the value of {} in {}", quoted(key), path_);
    if (type == kArray) return skip_array();
    auto value = scalar(type);
    if (!header_.metadata.emplace(key, std::move(value)).second) {
      refuse(fmt::format("the keys of {} must differ", path_), quoted(key) + " twice");
    }
  }

  GgufValue scalar(uint32_t type) {
    if (type == kString) return text(file_.size());
    if (value_bytes(type) == 0) {
      refuse(what_ + " must have one of GGUF's types 0 to 12", std::to_string(type));
    }
    const auto bits = number(value_bytes(type));
    if (type == kFloat32) return std::bit_cast<float>(static_cast<uint32_t>(bits));
    if (type == kFloat64) return std::bit_cast<double>(bits);
    switch (type) {
      case kInt8:
        return static_cast<int64_t>(static_cast<int8_t>(bits));
      case kInt16:
        return static_cast<int64_t>(static_cast<int16_t>(bits));
      case kInt32:
        return static_cast<int64_t>(static_cast<int32_t>(bits));
      default:
        return static_cast<int64_t>(bits);
    }
  }

  void skip_array() {
    const auto type = static_cast<uint32_t>(number(4));
    const auto count = number(8);
    if (type == kString) {
      for (uint64_t i = 0; i < count; ++i) skip(number(8));
      return;
    }
    const auto size = value_bytes(type);
    if (size == 0) {
      refuse(what_ + " must be an array of numbers or strings", fmt::format("type {}", type));
    }
    if (count > (file_.size() - at_) / size) refuse_end();
    skip(count * size);
  }

  void read_tensor() {
    GgufTensorInfo info;
    info.name = text(kLongestName);
    what_ = fmt::format("tensor {} of {}", io::quoted(info.name), path_);
    require_utf8(info.name);
    if (!names_.insert(info.name).second) {
      refuse(fmt::format("the tensors of {} must have different names", path_),
             io::quoted(info.name) + " twice");
    }
    const auto dimensions = static_cast<uint32_t>(number(4));
    if (dimensions > kMostGgufDimensions) {
      refuse(fmt::format("{} must have at most {} dimensions", what_, kMostGgufDimensions),
             std::to_string(dimensions));
    }
    for (uint32_t i = 0; i < dimensions; ++i) {
      const auto length = number(8);
      if (length > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
        refuse(fmt::format("the shape of {} must fit into 63 bits", what_), std::to_string(length));
      }
      info.shape.insert(info.shape.begin(), static_cast<int64_t>(length));
    }
    const auto type = static_cast<uint32_t>(number(4));
    info.type = gguf_type(type);
    if (info.type == nullptr) {
      refuse(fmt::format("the type of {} must be one of {}", what_, known_gguf_types()),
             gguf_type_name(type), "Convert the file, for example by llama-quantize to Q8_0.");
    }
    info.begin = number(8);
    info.end = info.begin + size_of(info);
    header_.tensors.push_back(std::move(info));
  }

  uint64_t size_of(const GgufTensorInfo& info) const {
    // A length of zero counts as one: LibTorch multiplies strides that way.
    uint64_t numbers = 1;
    bool is_empty = false;
    for (const auto length : info.shape) {
      is_empty = is_empty || length == 0;
      if (__builtin_mul_overflow(numbers, static_cast<uint64_t>(std::max<int64_t>(length, 1)),
                                 &numbers)) {
        refuse_size(info);
      }
    }
    // As many bits as 4 suffice for a number, so a file holds at most twice as many as bytes.
    if (numbers / 2 > file_.size() || info.begin > file_.size()) refuse_size(info);
    const auto block = static_cast<uint64_t>(info.type->block_numbers);
    const auto row = info.shape.empty() ? 1 : static_cast<uint64_t>(info.shape.back());
    if (row % block != 0) {
      refuse(fmt::format("the rows of {} must have whole blocks of {} numbers, as {} has them",
                         what_, block, info.type->name),
             std::to_string(row));
    }
    return is_empty ? 0 : numbers / block * info.type->block_bytes;
  }

  /// The data begins at the first aligned place after the header; the offsets count from there.
  void place_tensors() {
    const auto alignment = this->alignment();
    const auto start = (at_ + alignment - 1) / alignment * alignment;
    for (auto& info : header_.tensors) {
      what_ = fmt::format("tensor {} of {}", io::quoted(info.name), path_);
      if (info.begin % alignment != 0) {
        refuse(fmt::format("{} must begin at a multiple of {} bytes", what_, alignment),
               std::to_string(info.begin));
      }
      if (start + info.end > file_.size()) refuse_size(info);
      info.begin += start;
      info.end += start;
    }
    auto& tensors = header_.tensors;
    std::stable_sort(tensors.begin(), tensors.end(),
                     [](const auto& a, const auto& b) { return a.begin < b.begin; });
    for (size_t i = 1; i < tensors.size(); ++i) {
      if (tensors[i].begin >= tensors[i - 1].end) continue;
      refuse(
          fmt::format("the tensors of {} must not overlap", path_),
          fmt::format("{} and {}", io::quoted(tensors[i - 1].name), io::quoted(tensors[i].name)));
    }
  }

  uint64_t alignment() const {
    const auto found = header_.metadata.find("general.alignment");
    if (found == header_.metadata.end()) return kAlignment;
    const auto* value = std::get_if<int64_t>(&found->second);
    const bool is_valid = value != nullptr && *value >= 8 && *value <= (int64_t{1} << 20) &&
                          std::has_single_bit(static_cast<uint64_t>(*value));
    if (!is_valid) {
      refuse(fmt::format("general.alignment of {} must be a power of two from 8 to 1048576", path_),
             value == nullptr ? "no whole number" : std::to_string(*value));
    }
    return static_cast<uint64_t>(*value);
  }

  std::string_view take(uint64_t count) {
    if (count > file_.size() - at_) refuse_end();
    const auto bytes = file_.substr(at_, count);
    at_ += count;
    return bytes;
  }
  void skip(uint64_t count) { take(count); }
  uint64_t number(uint64_t bytes) { return little_endian(take(bytes)); }
  std::string text(uint64_t longest) {
    const auto length = number(8);
    if (length > longest) {
      refuse(fmt::format("the names in {} must have at most {}", path_, count_bytes(longest)),
             count_bytes(length));
    }
    return std::string(take(length));
  }

  void require_utf8(const std::string& name) const {
    try {
      static_cast<void>(nlohmann::json(name).dump());
    } catch (const nlohmann::json::type_error&) {
      refuse(fmt::format("the names of the tensors in {} must be UTF-8", path_), io::quoted(name));
    }
  }
  [[noreturn]] void refuse_end() const {
    refuse(path_ + " must hold its whole header",
           fmt::format("an end after {}", count_bytes(file_.size())),
           "The file is cut short or damaged.");
  }
  [[noreturn]] void refuse_size(const GgufTensorInfo& info) const {
    refuse(fmt::format("the {} of {} must hold {}", count_bytes(file_.size()), path_, what_),
           fmt::format("{} of shape [{}] at byte {} of the data", info.type->name,
                       fmt::join(info.shape, ", "), info.begin),
           "The file is cut short or damaged.");
  }
  [[noreturn]] static void refuse(const std::string& required, const std::string& found,
                                  std::string_view hint = {}) {
    fail<FileError>(kGgufReader, required, found, hint);
  }

  std::string_view file_;
  std::string path_;
  std::string what_;
  uint64_t at_ = 0;
  std::set<std::string> names_;
  GgufHeader header_;
};

}  // namespace

GgufHeader parse_gguf_header(std::string_view file, const std::filesystem::path& path) {
  return GgufParser(file, path).parse();
}

}  // namespace lowrank::io
