#pragma once

#include <cstdint>
#include <string>

namespace lowrank {

/// Returns a safetensors file: the header's length (the real one if `length` is negative), the
/// header, and `data_size` bytes of 1.
inline std::string safetensors_bytes(const std::string& header, size_t data_size,
                                     int64_t length = -1) {
  const auto written = static_cast<uint64_t>(length < 0 ? header.size() : length);
  std::string bytes(8, '\0');
  for (size_t i = 0; i < 8; ++i) bytes[i] = static_cast<char>(written >> (8 * i));
  return bytes + header + std::string(data_size, '\1');
}

}  // namespace lowrank
