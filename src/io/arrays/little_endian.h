#pragma once

#include <cstdint>
#include <string_view>

namespace lowrank::io {

/// The number with these bytes, lowest first; at most 8 bytes.
inline uint64_t little_endian(std::string_view bytes) {
  uint64_t value = 0;
  for (size_t i = bytes.size(); i > 0; --i) {
    value = value << 8 | static_cast<unsigned char>(bytes[i - 1]);
  }
  return value;
}

}  // namespace lowrank::io
