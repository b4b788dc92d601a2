#include "io/arrays/safetensors_header.h"

#include <ATen/ATen.h>
#include <fmt/ranges.h>
#include <lowrank/error.h>
#include <lowrank/io/json.h>

#include <algorithm>
#include <array>
#include <limits>
#include <tuple>
#include <utility>

#include "io/arrays/little_endian.h"
#include "io/files/system_file.h"

namespace lowrank::io {
namespace {

using nlohmann::json;

constexpr const char* kReader = "safetensors";
constexpr size_t kMostDimensions = 64;  // what LibTorch's operators can take

/// What kind of file begins with these bytes, as a hint in errors about its first eight bytes.
std::string_view likely_cause(std::string_view file) {
  using namespace std::string_view_literals;
  constexpr std::array kSignatures = {
      std::pair{"PK\x03\x04"sv, "It looks like a file of torch.save: save it as safetensors."sv},
      std::pair{"\x80\x02"sv, "It looks like a pickle of PyTorch: save it as safetensors."sv},
      std::pair{"version https://git-lfs"sv,
                "It is a Git LFS pointer, not the file: fetch it with \"git lfs pull\"."sv},
      std::pair{"GGUF"sv, "It looks like a GGUF file."sv},
      std::pair{"\x93NUMPY"sv, "It looks like a NumPy array."sv},
  };
  for (const auto& [signature, cause] : kSignatures) {
    if (file.substr(0, signature.size()) == signature) return cause;
  }
  return {};
}

/// Parses one header. Every check knows the file and the tensor that its message is about.
class Parser {
 public:
  Parser(std::string_view file, const std::filesystem::path& path)
      : file_(file), path_(quoted(path)) {}

  SafetensorsHeader parse() {
    const json header = parse_text();
    data_size_ = file_.size() - header_.data_start;
    for (const auto& [name, value] : header.items()) {
      if (name == kSafetensorsMetadata) {
        parse_metadata(value);
      } else {
        tensor_ = fmt::format("tensor {} of {}", quoted(name), path_);
        parse_tensor(name, value);
      }
    }
    check_cover();
    return std::move(header_);
  }

 private:
  json parse_text() {
    if (file_.size() < kSafetensorsPrefix) {
      refuse(path_ + " must be at least 8 bytes long", count_bytes(file_.size()));
    }
    const uint64_t length = little_endian(file_.substr(0, kSafetensorsPrefix));
    const uint64_t most =
        std::min<uint64_t>(kLongestSafetensorsHeader, file_.size() - kSafetensorsPrefix);
    if (length > most) {
      refuse(fmt::format("the header of {} must be at most {} long", path_, count_bytes(most)),
             fmt::format("a header length of {}", length), likely_cause(file_));
    }
    const std::string_view text = file_.substr(kSafetensorsPrefix, length);
    const std::string what = "the header of " + path_;
    if (text.empty() || text.front() != '{') {
      refuse(what + " must be a JSON object", text.empty() ? "nothing" : "another first byte",
             likely_cause(file_));
    }
    header_.data_start = kSafetensorsPrefix + length;
    return parse_json(text, what, kReader);
  }

  void parse_metadata(const json& value) {
    const std::string what = fmt::format("\"{}\" in {}", kSafetensorsMetadata, path_);
    if (value.is_null()) return;
    if (!value.is_object()) refuse(what + " must be an object", value.type_name());
    for (const auto& [key, text] : value.items()) {
      if (!text.is_string()) {
        refuse(what + " must hold only strings",
               fmt::format("{} for the key {}", text.type_name(), quoted(key)));
      }
      header_.metadata.emplace(key, text.get<std::string>());
    }
  }

  void parse_tensor(const std::string& name, const json& value) {
    if (!value.is_object()) refuse(tensor_ + " must be an object", value.type_name());
    SafetensorsTensorInfo info;
    info.name = name;
    info.dtype = parse_dtype(field(value, "dtype"));
    info.shape = parse_shape(field(value, "shape"));
    std::tie(info.begin, info.end) = parse_offsets(field(value, "data_offsets"));
    check_size(info);
    header_.tensors.push_back(std::move(info));
  }

  const json& field(const json& value, const char* key) const {
    const auto found = value.find(key);
    if (found == value.end()) refuse(fmt::format("{} must have a \"{}\"", tensor_, key), "none");
    return *found;
  }

  const SafetensorsDtype* parse_dtype(const json& value) const {
    if (!value.is_string()) {
      refuse(fmt::format("the dtype of {} must be a string", tensor_), value.type_name());
    }
    const auto& name = value.get_ref<const std::string&>();
    std::string known;
    for (const auto& dtype : safetensors_dtypes()) {
      if (name == dtype.name) return &dtype;
      known += (known.empty() ? "" : ", ") + std::string(dtype.name);
    }
    refuse(fmt::format("the dtype of {} must be one of {}", tensor_, known), quoted(name));
  }

  std::vector<int64_t> parse_shape(const json& value) const {
    const std::string what = "the shape of " + tensor_;
    if (!value.is_array()) refuse(what + " must be a list", value.type_name());
    if (value.size() > kMostDimensions) {
      refuse(fmt::format("{} must have at most {} dimensions", what, kMostDimensions),
             std::to_string(value.size()));
    }
    std::vector<int64_t> shape;
    for (const auto& length : value) {
      if (!length.is_number_unsigned() ||
          length.get<uint64_t>() > std::numeric_limits<int64_t>::max()) {
        refuse(what + " must hold non-negative integers", quoted(length.dump()));
      }
      shape.push_back(length.get<int64_t>());
    }
    return shape;
  }

  std::pair<uint64_t, uint64_t> parse_offsets(const json& value) const {
    if (!value.is_array() || value.size() != 2 || !value[0].is_number_unsigned() ||
        !value[1].is_number_unsigned()) {
      refuse(fmt::format("the data_offsets of {} must be two non-negative integers", tensor_),
             quoted(value.dump()));
    }
    return {value[0].get<uint64_t>(), value[1].get<uint64_t>()};
  }

  void check_size(const SafetensorsTensorInfo& info) const {
    if (info.begin > info.end || info.end > data_size_) {
      refuse(fmt::format("the data_offsets of {} must lie, in order, within the {} of data",
                         tensor_, count_bytes(data_size_)),
             fmt::format("[{}, {}]", info.begin, info.end));
    }
    // A length of zero counts as one: LibTorch multiplies strides that way.
    uint64_t widest = info.dtype->bytes;
    bool empty = false;
    for (const int64_t length : info.shape) {
      empty = empty || length == 0;
      if (__builtin_mul_overflow(widest, static_cast<uint64_t>(std::max<int64_t>(length, 1)),
                                 &widest) ||
          widest > std::numeric_limits<int64_t>::max()) {
        refuse(fmt::format("the size of {} must fit into 63 bits", tensor_), shape_text(info));
      }
    }
    const uint64_t size = empty ? 0 : widest;
    if (info.end - info.begin != size) {
      refuse(fmt::format("{} must take {}, as its shape {} and dtype ask for", tensor_,
                         count_bytes(size), shape_text(info)),
             count_bytes(info.end - info.begin));
    }
  }

  static std::string shape_text(const SafetensorsTensorInfo& info) {
    return fmt::format("[{}]", fmt::join(info.shape, ", "));
  }

  /// As in the reference implementation, each tensor must begin where the one before it ends, and
  /// the last one must end with the file.
  void check_cover() {
    auto& tensors = header_.tensors;
    std::sort(tensors.begin(), tensors.end(), [](const auto& a, const auto& b) {
      return std::tie(a.begin, a.end, a.name) < std::tie(b.begin, b.end, b.name);
    });
    uint64_t position = 0;
    for (const auto& info : tensors) {
      if (info.begin != position) {
        refuse(fmt::format("tensor {} of {} must begin at byte {} of the data, where the one "
                           "before it ends",
                           quoted(info.name), path_, position),
               fmt::format("{}, which leaves {}", info.begin,
                           info.begin < position ? "an overlap" : "a hole"));
      }
      position = info.end;
    }
    if (const uint64_t rest = data_size_ - position; rest > 0) {
      refuse(fmt::format("the tensors of {} must cover its {} of data", path_,
                         count_bytes(data_size_)),
             count_bytes(rest) + (rest == 1 ? " that belongs to none" : " that belong to none"));
    }
  }

  [[noreturn]] static void refuse(const std::string& required, const std::string& found,
                                  std::string_view hint = {}) {
    fail<FileError>(kReader, required, found, hint);
  }

  std::string_view file_;
  std::string path_;
  std::string tensor_;
  uint64_t data_size_ = 0;
  SafetensorsHeader header_;
};

}  // namespace

const std::vector<SafetensorsDtype>& safetensors_dtypes() {
  static const std::vector<SafetensorsDtype> dtypes = {
      {"I64", at::kLong, 8},  {"F64", at::kDouble, 8},    {"F32", at::kFloat, 4},
      {"I32", at::kInt, 4},   {"BF16", at::kBFloat16, 2}, {"F16", at::kHalf, 2},
      {"I16", at::kShort, 2}, {"F8_E4M3", at::kFloat, 1}, {"F8_E5M2", at::kFloat, 1},
      {"I8", at::kChar, 1},   {"U8", at::kByte, 1},       {"BOOL", at::kBool, 1},
  };
  return dtypes;
}

SafetensorsHeader parse_safetensors_header(std::string_view file,
                                           const std::filesystem::path& path) {
  return Parser(file, path).parse();
}

}  // namespace lowrank::io
