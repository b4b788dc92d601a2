#pragma once

#include <ATen/core/Tensor.h>
#include <lowrank/export.h>

#include <cstdint>
#include <optional>
#include <string_view>

/// Floating-point numbers of 8 bits (Micikevicius et al., arXiv 2209.05433), which LibTorch 1.13
/// does not have: they are widened to float32, and rounded from it.
namespace lowrank {

enum class Float8 : uint8_t {
  kE4M3,  ///< E4M3FN: 4 bits of exponent, 3 of mantissa; at most 448, no infinity
  kE5M2,  ///< 5 bits of exponent, 2 of mantissa; at most 57344, infinities as IEEE 754 has them
};

/// Returns the kind for safetensors' "F8_E4M3" or "F8_E5M2"; nothing for other words.
LOWRANK_API std::optional<Float8> float8_kind(std::string_view name);

/// Returns the nearest number of the kind, and of two that are equally near the one with an even
/// mantissa. Values that are too large become NaN (E4M3) or infinite (E5M2), as in PyTorch.
LOWRANK_API float round_to_float8(double value, Float8 kind);

/// Widens bytes (uint8) to float32, exactly.
LOWRANK_API at::Tensor widen_float8(const at::Tensor& bytes, Float8 kind);

/// Rounds float32 numbers to bytes (uint8).
LOWRANK_API at::Tensor float8_bytes(const at::Tensor& numbers, Float8 kind);

}  // namespace lowrank
