#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "io/gguf/gguf_types.h"

/// The part of a GGUF file that comes before the data (ggml-org/ggml, docs/gguf.md), of versions 2
/// and 3.
namespace lowrank::io {

struct GgufTensorInfo {
  std::string name;
  const GgufType* type = nullptr;
  std::vector<int64_t> shape;  // as LibTorch has it: the last dimension is contiguous
  uint64_t begin = 0;          // from the start of the file
  uint64_t end = 0;
};

/// A scalar of the metadata: whole numbers as int64, truth values as 0 and 1.
using GgufValue = std::variant<int64_t, double, std::string>;

struct GgufHeader {
  std::vector<GgufTensorInfo> tensors;        // by offset
  std::map<std::string, GgufValue> metadata;  // without the arrays, which are checked and skipped
};

/// Parses and checks the header of a whole file. Throws a FileError that names `path`, also for a
/// tensor whose type is not read.
GgufHeader parse_gguf_header(std::string_view file, const std::filesystem::path& path);

}  // namespace lowrank::io
