#pragma once

#include <cstring>

#include "kernels/tiles/compact_format.h"
#include "kernels/tiles/simd_vector.h"

namespace lowrank::kernels::LOWRANK_KERNELS {

LOWRANK_INLINE float half_as_float(uint16_t half) {
#if defined(__F16C__)
  return _cvtsh_ss(half);
#else
  const uint32_t sign = static_cast<uint32_t>(half & 0x8000U) << 16;
  const uint32_t exponent = (half >> 10) & 31U, fraction = half & 1023U;
  uint32_t bits = sign;
  if (exponent == 31) {
    bits |= 0x7F800000U | (fraction << 13);
  } else if (exponent != 0) {
    bits |= ((exponent + 112) << 23) | (fraction << 13);
  } else {  // a subnormal number: fraction · 2⁻²⁴
    const float magnitude = static_cast<float>(fraction) * 0x1p-24F;
    uint32_t of_magnitude;
    std::memcpy(&of_magnitude, &magnitude, sizeof of_magnitude);
    bits |= of_magnitude;
  }
  float number;
  std::memcpy(&number, &bits, sizeof number);
  return number;
#endif
}

LOWRANK_INLINE float half_at(const char* bytes) {
  uint16_t half;
  std::memcpy(&half, bytes, sizeof half);
  return half_as_float(half);
}

inline void widen_bfloat16(const char* from, int64_t count, float* to) {
  int64_t i = 0;
#if defined(__AVX2__)
  for (; i + 8 <= count; i += 8) {
    const auto bits = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from + 2 * i));
    const auto wide = _mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16);
    _mm256_storeu_ps(to + i, _mm256_castsi256_ps(wide));
  }
#endif
  for (; i < count; ++i) {
    uint16_t upper;
    std::memcpy(&upper, from + 2 * i, sizeof upper);
    const uint32_t bits = static_cast<uint32_t>(upper) << 16;
    std::memcpy(to + i, &bits, sizeof bits);
  }
}

inline void widen_float16(const char* from, int64_t count, float* to) {
  int64_t i = 0;
#if defined(__F16C__)
  for (; i + 8 <= count; i += 8) {
    const auto bits = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from + 2 * i));
    _mm256_storeu_ps(to + i, _mm256_cvtph_ps(bits));
  }
#endif
  for (; i < count; ++i) to[i] = half_at(from + 2 * i);
}

// In what follows d·q is exact, because d has 11 bits and q at most 8. So it does not matter
// whether d·q + m is computed in one operation or in two.

/// d·q for the 32 numbers of 8 bits in 32 bytes.
LOWRANK_INLINE void widen_bytes(const char* from, float d, float* to) {
#if defined(__AVX2__)
  for (int i = 0; i < 32; i += 8) {
    const auto q = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(from + i));
    const auto wide = _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(q));
    _mm256_storeu_ps(to + i, _mm256_mul_ps(_mm256_set1_ps(d), wide));
  }
#else
  for (int i = 0; i < 32; ++i) to[i] = d * static_cast<float>(static_cast<signed char>(from[i]));
#endif
}

/// d·(q - less) + m for the 32 numbers of 4 bits in 16 bytes.
LOWRANK_INLINE void widen_nibbles(const char* from, float d, float m, int less, float* to) {
#if defined(__AVX2__)
  const auto both = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
  const auto mask = _mm_set1_epi8(15);
  const auto lower = _mm_and_si128(both, mask);
  const auto upper = _mm_and_si128(_mm_srli_epi16(both, 4), mask);
  const auto put = [&](__m128i q, float* into) {
    const auto whole = _mm256_sub_epi32(_mm256_cvtepu8_epi32(q), _mm256_set1_epi32(less));
    _mm256_storeu_ps(into,
                     _mm256_add_ps(_mm256_mul_ps(_mm256_set1_ps(d), _mm256_cvtepi32_ps(whole)),
                                   _mm256_set1_ps(m)));
  };
  put(lower, to);
  put(_mm_srli_si128(lower, 8), to + 8);
  put(upper, to + 16);
  put(_mm_srli_si128(upper, 8), to + 24);
#else
  for (int i = 0; i < 16; ++i) {
    const auto both = static_cast<unsigned char>(from[i]);
    to[i] = d * static_cast<float>((both & 15) - less) + m;
    to[i + 16] = d * static_cast<float>((both >> 4) - less) + m;
  }
#endif
}

/// Calls widen(from, to) for each block of `count` numbers.
template <class Widen>
LOWRANK_INLINE void for_blocks(CompactBlock block, const char* from, int64_t count, float* to,
                               const Widen& widen) {
  for (int64_t i = 0; i < count; i += block.numbers, from += block.bytes) widen(from, to + i);
}

/// Writes `count` numbers as float32; whole blocks of them.
inline void widen_loop(CompactFormat format, const char* from, int64_t count, float* to) {
  const auto block = block_of(format);
  switch (format) {
    case CompactFormat::kBfloat16:
      return widen_bfloat16(from, count, to);
    case CompactFormat::kFloat16:
      return widen_float16(from, count, to);
    case CompactFormat::kQ8_0:
      return for_blocks(block, from, count, to, [](const char* bytes, float* numbers) {
        widen_bytes(bytes + 2, half_at(bytes), numbers);
      });
    case CompactFormat::kQ4_0:
      return for_blocks(block, from, count, to, [](const char* bytes, float* numbers) {
        widen_nibbles(bytes + 2, half_at(bytes), -0.0F, 8, numbers);  // + -0 keeps the sign of 0
      });
    case CompactFormat::kQ4_1:
      return for_blocks(block, from, count, to, [](const char* bytes, float* numbers) {
        widen_nibbles(bytes + 4, half_at(bytes), half_at(bytes + 2), 0, numbers);
      });
  }
}

}  // namespace lowrank::kernels::LOWRANK_KERNELS
