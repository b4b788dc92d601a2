#include "app/images/base64.h"

#include <cstddef>
#include <cstdint>

namespace lowrank::app {

std::string base64(std::string_view bytes) {
  constexpr std::string_view kDigits =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string result;
  result.reserve((bytes.size() + 2) / 3 * 4);
  for (size_t at = 0; at < bytes.size(); at += 3) {
    const auto part = bytes.substr(at, 3);
    uint32_t bits = 0;
    for (size_t i = 0; i < 3; ++i) {
      bits = bits << 8 | (i < part.size() ? static_cast<unsigned char>(part[i]) : 0U);
    }
    for (size_t i = 0; i < 4; ++i) {
      result += i <= part.size() ? kDigits[bits >> (18 - 6 * i) & 63] : '=';
    }
  }
  return result;
}

}  // namespace lowrank::app
