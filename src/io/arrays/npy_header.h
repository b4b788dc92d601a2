#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace lowrank::io {

/// The contents of a .npy file's header, checked.
struct NpyHeader {
  char kind = 'f';        // 'f' float, 'i' signed, 'u' unsigned, 'b' bool
  int64_t item_size = 4;  // bytes per element: 1, 2, 4 or 8
  bool big_endian = false;
  bool fortran_order = false;
  std::vector<int64_t> shape;
  int64_t count = 1;  // elements; count · item_size does not overflow
};

constexpr size_t kNpyPreludeBytes = 12;  // magic, version and the longest length field

/// The position of the dict literal, found in the first bytes of the file (at least 10).
struct NpyPrelude {
  uint64_t begin = 0;
  uint64_t length = 0;  // at most 65536
};
NpyPrelude parse_npy_prelude(std::string_view bytes, const std::filesystem::path& path);

/// Parses the dict literal: exactly the keys descr, fortran_order and shape.
NpyHeader parse_npy_header(std::string_view text, const std::filesystem::path& path);

}  // namespace lowrank::io
