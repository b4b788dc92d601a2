#include <ATen/ATen.h>
#include <lowrank/io/float8.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

namespace lowrank {
namespace {

struct Format {
  int mantissa_bits, least_exponent;  // the latter of a normal number
  double largest;
};

constexpr Format format_of_kind(Float8 kind) {
  return kind == Float8::kE4M3 ? Format{3, -6, 448} : Format{2, -14, 57344};
}

/// The number whose bits these are.
float number_of(uint8_t bits, Float8 kind) {
  const auto format = format_of_kind(kind);
  const int magnitude = bits & 0x7F;
  const int exponent = magnitude >> format.mantissa_bits;
  const int mantissa = magnitude & ((1 << format.mantissa_bits) - 1);
  double value = 0;
  if (kind == Float8::kE4M3 && magnitude == 0x7F) {
    value = std::numeric_limits<double>::quiet_NaN();
  } else if (kind == Float8::kE5M2 && exponent == 31) {
    value = mantissa == 0 ? std::numeric_limits<double>::infinity()
                          : std::numeric_limits<double>::quiet_NaN();
  } else {
    const int whole = exponent == 0 ? mantissa : mantissa + (1 << format.mantissa_bits);
    value =
        std::ldexp(whole, std::max(exponent, 1) - 1 + format.least_exponent - format.mantissa_bits);
  }
  return static_cast<float>((bits & 0x80) != 0 ? -value : value);
}

std::array<float, 256> numbers_of(Float8 kind) {
  std::array<float, 256> numbers = {};
  for (size_t i = 0; i < numbers.size(); ++i) numbers[i] = number_of(static_cast<uint8_t>(i), kind);
  return numbers;
}

/// The bits of a number that the kind has.
uint8_t bits_of(float value, Float8 kind) {
  const auto format = format_of_kind(kind);
  const int sign = std::signbit(value) ? 0x80 : 0;
  if (std::isnan(value)) return static_cast<uint8_t>(sign | 0x7F);
  if (std::isinf(value)) return static_cast<uint8_t>(sign | 0x7C);
  if (value == 0) return static_cast<uint8_t>(sign);
  const int exponent = std::max(std::ilogb(value), format.least_exponent);
  const auto whole = static_cast<int>(std::ldexp(std::abs(value), format.mantissa_bits - exponent));
  // A subnormal number has no leading one, and exponent 0.
  const int biased = (exponent - format.least_exponent) << format.mantissa_bits;
  return static_cast<uint8_t>(sign | (biased + whole));
}

}  // namespace

std::optional<Float8> float8_kind(std::string_view name) {
  if (name == "F8_E4M3") return Float8::kE4M3;
  if (name == "F8_E5M2") return Float8::kE5M2;
  return std::nullopt;
}

float round_to_float8(double value, Float8 kind) {
  if (!std::isfinite(value)) {
    const bool has_infinity = kind == Float8::kE5M2;
    return has_infinity ? static_cast<float>(value) : std::numeric_limits<float>::quiet_NaN();
  }
  if (value == 0) return static_cast<float>(value);
  const auto format = format_of_kind(kind);
  const int step = std::max(std::ilogb(value), format.least_exponent) - format.mantissa_bits;
  const double rounded = std::ldexp(std::nearbyint(std::ldexp(value, -step)), step);
  if (std::abs(rounded) <= format.largest) return static_cast<float>(rounded);
  return kind == Float8::kE4M3
             ? std::numeric_limits<float>::quiet_NaN()
             : static_cast<float>(std::copysign(std::numeric_limits<double>::infinity(), value));
}

at::Tensor widen_float8(const at::Tensor& bytes, Float8 kind) {
  const auto numbers = numbers_of(kind);
  const auto from = bytes.contiguous();
  const auto widened = at::empty(from.sizes(), at::kFloat);
  const auto* source = from.data_ptr<uint8_t>();
  auto* target = widened.data_ptr<float>();
  for (int64_t i = 0; i < from.numel(); ++i) target[i] = numbers[source[i]];
  return widened;
}

at::Tensor float8_bytes(const at::Tensor& numbers, Float8 kind) {
  const auto from = numbers.contiguous();
  const auto bytes = at::empty(from.sizes(), at::kByte);
  const auto* source = from.data_ptr<float>();
  auto* target = bytes.data_ptr<uint8_t>();
  for (int64_t i = 0; i < from.numel(); ++i) {
    target[i] = bits_of(round_to_float8(source[i], kind), kind);
  }
  return bytes;
}

}  // namespace lowrank
