#pragma once

#include <bit>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace lowrank {

/// A message in protocol buffers' wire format (protobuf.dev/programming-guides/encoding), field by
/// field. TensorBoard's messages are few, and LibTorch's packages bring protobuf headers of their
/// own, which clash with the system's.
class Message {
 public:
  Message& number(uint32_t field, uint64_t value) {
    key(field, kVarint);
    varint(value);
    return *this;
  }
  Message& real(uint32_t field, double value) {
    key(field, kFixed64);
    fixed(std::bit_cast<uint64_t>(value), sizeof(value));
    return *this;
  }
  Message& real(uint32_t field, float value) {
    key(field, kFixed32);
    fixed(std::bit_cast<uint32_t>(value), sizeof(value));
    return *this;
  }
  Message& bytes(uint32_t field, std::string_view value) {
    key(field, kBytes);
    varint(value.size());
    bytes_ += value;
    return *this;
  }
  Message& message(uint32_t field, const Message& value) { return bytes(field, value.bytes_); }
  Message& reals(uint32_t field, const std::vector<double>& values) {
    Message packed;
    for (const double value : values) packed.fixed(std::bit_cast<uint64_t>(value), sizeof(value));
    return message(field, packed);
  }

  const std::string& encoded() const { return bytes_; }

 private:
  static constexpr uint32_t kVarint = 0, kFixed64 = 1, kBytes = 2, kFixed32 = 5;

  void key(uint32_t field, uint32_t type) { varint(field << 3U | type); }
  void varint(uint64_t value) {
    for (; value >= 0x80; value >>= 7U) bytes_ += static_cast<char>(value | 0x80U);
    bytes_ += static_cast<char>(value);
  }
  void fixed(uint64_t value, size_t size) {
    for (size_t i = 0; i < size; ++i) bytes_ += static_cast<char>(value >> (8 * i) & 0xffU);
  }

  std::string bytes_;
};

}  // namespace lowrank
