#pragma once

#include <cstdint>

/// How a compact weight keeps its numbers: in fewer bytes than float32 takes.
namespace lowrank::kernels {

/// The blocks are those of GGUF (ggml-org/ggml, ggml-common.h): 32 numbers that share a float16
/// scale d.
enum class CompactFormat : uint8_t {
  kBfloat16,
  kFloat16,
  kQ8_0,  ///< d, then q of 8 bits: d·q
  kQ4_0,  ///< d, then q of 4 bits, the first 16 of them in the lower bits: d·(q - 8)
  kQ4_1,  ///< d and m, then q of 4 bits in the same order: d·q + m
};

struct CompactBlock {
  int64_t numbers, bytes;
};

constexpr CompactBlock block_of(CompactFormat format) {
  switch (format) {
    case CompactFormat::kQ8_0:
      return {32, 34};
    case CompactFormat::kQ4_0:
      return {32, 18};
    case CompactFormat::kQ4_1:
      return {32, 20};
    default:
      return {1, 2};
  }
}

}  // namespace lowrank::kernels
