#pragma once

#include <c10/core/ScalarType.h>

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <vector>

/// The part of a safetensors file that comes before the data.
namespace lowrank::io {

inline constexpr uint64_t kSafetensorsPrefix = 8;  // the header's length, little-endian
inline constexpr uint64_t kLongestSafetensorsHeader = 100'000'000;  // the reference's own limit
inline constexpr const char* kSafetensorsMetadata = "__metadata__";

struct SafetensorsDtype {
  const char* name;
  at::ScalarType type;  // of the tensor that is read: float32 for numbers of 8 bits
  uint64_t bytes;       // of a number in the file
};

/// In the order in which the reference implementation writes them.
const std::vector<SafetensorsDtype>& safetensors_dtypes();

/// One tensor of a header; `begin` and `end` count from the first byte after the header.
struct SafetensorsTensorInfo {
  std::string name;
  const SafetensorsDtype* dtype = nullptr;
  std::vector<int64_t> shape;
  uint64_t begin = 0;
  uint64_t end = 0;
};

struct SafetensorsHeader {
  uint64_t data_start = 0;                     // from the start of the file
  std::vector<SafetensorsTensorInfo> tensors;  // by offset; they cover the data without a hole
  std::map<std::string, std::string> metadata;
};

/// Parses and checks the header of a whole file. Throws a FileError that names `path`.
SafetensorsHeader parse_safetensors_header(std::string_view file,
                                           const std::filesystem::path& path);

}  // namespace lowrank::io
