#pragma once

#include <cstdint>
#include <cstring>

#if defined(__AVX2__)
#include <immintrin.h>
#endif

/// One float32 register, as wide as the instruction set has them that the including file is
/// compiled for. The code in tiles/ is compiled once for each set, in a namespace of its own (the
/// including file defines its name, LOWRANK_KERNELS), so that the linker never mixes up two
/// versions.
namespace lowrank::kernels::LOWRANK_KERNELS {

#define LOWRANK_INLINE [[gnu::always_inline]] inline

/// Goes before a loop over sums. Otherwise the compiler unrolls the loop only after it has decided
/// what to keep in memory, and between two loops over the depth it moves the sums to memory and
/// back.
#define LOWRANK_UNROLLED _Pragma("GCC unroll 8")

/// Goes before a loop over the depth that reads panels: it is a tenth faster in fours.
#define LOWRANK_IN_FOURS _Pragma("GCC unroll 4")

#if defined(__AVX512F__)

struct Vector {
  static constexpr int kRegisters = 32;
  static constexpr int64_t kLanes = 16;
  __m512 value;
};

LOWRANK_INLINE __mmask16 first(int64_t count) { return static_cast<__mmask16>((1U << count) - 1); }

LOWRANK_INLINE Vector all(float number) { return {_mm512_set1_ps(number)}; }
LOWRANK_INLINE Vector load(const float* from) { return {_mm512_loadu_ps(from)}; }
LOWRANK_INLINE Vector load(const float* from, int64_t count) {
  return {_mm512_maskz_loadu_ps(first(count), from)};
}
LOWRANK_INLINE void store(float* to, Vector v) { _mm512_storeu_ps(to, v.value); }
LOWRANK_INLINE void store(float* to, Vector v, int64_t count) {
  _mm512_mask_storeu_ps(to, first(count), v.value);
}
LOWRANK_INLINE Vector multiply_add(Vector a, Vector b, Vector c) {
  return {_mm512_fmadd_ps(a.value, b.value, c.value)};
}
LOWRANK_INLINE Vector add(Vector a, Vector b) { return {_mm512_add_ps(a.value, b.value)}; }
LOWRANK_INLINE Vector subtract(Vector a, Vector b) { return {_mm512_sub_ps(a.value, b.value)}; }
LOWRANK_INLINE Vector larger_magnitude(Vector a, Vector b) {
  return {_mm512_max_ps(a.value, _mm512_abs_ps(b.value))};
}
/// max(0, v); NaN stays NaN.
LOWRANK_INLINE Vector rectified(Vector v) { return {_mm512_max_ps(_mm512_setzero_ps(), v.value)}; }
/// v, but 0 where `by` is at most 0.
LOWRANK_INLINE Vector where_positive(Vector by, Vector v) {
  const auto positive = _mm512_cmp_ps_mask(by.value, _mm512_setzero_ps(), _CMP_NLE_UQ);
  return {_mm512_maskz_mov_ps(positive, v.value)};
}

/// to[i] = the sum of the lanes of v[i], always in the same order.
LOWRANK_INLINE void sums(const Vector (&v)[4], float* to) {
  const auto pairs = [](Vector a, Vector b) {
    return _mm512_add_ps(_mm512_unpacklo_ps(a.value, b.value),
                         _mm512_unpackhi_ps(a.value, b.value));
  };
  const __m512 ab = pairs(v[0], v[1]), cd = pairs(v[2], v[3]);
  const __m512 quads =
      _mm512_add_ps(_mm512_shuffle_ps(ab, cd, 0x44), _mm512_shuffle_ps(ab, cd, 0xEE));
  const __m256 halves =
      _mm256_add_ps(_mm512_castps512_ps256(quads), _mm512_extractf32x8_ps(quads, 1));
  _mm_storeu_ps(to, _mm_add_ps(_mm256_castps256_ps128(halves), _mm256_extractf128_ps(halves, 1)));
}

#elif defined(__AVX2__)

struct Vector {
  static constexpr int kRegisters = 16;
  static constexpr int64_t kLanes = 8;
  __m256 value;
};

LOWRANK_INLINE __m256i first(int64_t count) {
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(count)),
                            _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

LOWRANK_INLINE Vector all(float number) { return {_mm256_set1_ps(number)}; }
LOWRANK_INLINE Vector load(const float* from) { return {_mm256_loadu_ps(from)}; }
LOWRANK_INLINE Vector load(const float* from, int64_t count) {
  return {_mm256_maskload_ps(from, first(count))};
}
LOWRANK_INLINE void store(float* to, Vector v) { _mm256_storeu_ps(to, v.value); }
LOWRANK_INLINE void store(float* to, Vector v, int64_t count) {
  _mm256_maskstore_ps(to, first(count), v.value);
}
LOWRANK_INLINE Vector multiply_add(Vector a, Vector b, Vector c) {
  return {_mm256_fmadd_ps(a.value, b.value, c.value)};
}
LOWRANK_INLINE Vector add(Vector a, Vector b) { return {_mm256_add_ps(a.value, b.value)}; }
LOWRANK_INLINE Vector subtract(Vector a, Vector b) { return {_mm256_sub_ps(a.value, b.value)}; }
LOWRANK_INLINE Vector larger_magnitude(Vector a, Vector b) {
  return {_mm256_max_ps(a.value, _mm256_andnot_ps(_mm256_set1_ps(-0.0F), b.value))};
}
LOWRANK_INLINE Vector rectified(Vector v) { return {_mm256_max_ps(_mm256_setzero_ps(), v.value)}; }
LOWRANK_INLINE Vector where_positive(Vector by, Vector v) {
  return {_mm256_and_ps(_mm256_cmp_ps(by.value, _mm256_setzero_ps(), _CMP_NLE_UQ), v.value)};
}

LOWRANK_INLINE void sums(const Vector (&v)[4], float* to) {
  const __m256 quads = _mm256_hadd_ps(_mm256_hadd_ps(v[0].value, v[1].value),
                                      _mm256_hadd_ps(v[2].value, v[3].value));
  _mm_storeu_ps(to, _mm_add_ps(_mm256_castps256_ps128(quads), _mm256_extractf128_ps(quads, 1)));
}

/// Turns the rows of an 8 by 8 matrix into its columns.
LOWRANK_INLINE void transpose(Vector (&v)[8]) {
  __m256 pairs[8], quads[8];
  LOWRANK_UNROLLED
  for (int i = 0; i < 8; i += 2) {
    pairs[i] = _mm256_unpacklo_ps(v[i].value, v[i + 1].value);
    pairs[i + 1] = _mm256_unpackhi_ps(v[i].value, v[i + 1].value);
  }
  LOWRANK_UNROLLED
  for (int i = 0; i < 8; i += 4) {
    quads[i] = _mm256_shuffle_ps(pairs[i], pairs[i + 2], 0x44);
    quads[i + 1] = _mm256_shuffle_ps(pairs[i], pairs[i + 2], 0xEE);
    quads[i + 2] = _mm256_shuffle_ps(pairs[i + 1], pairs[i + 3], 0x44);
    quads[i + 3] = _mm256_shuffle_ps(pairs[i + 1], pairs[i + 3], 0xEE);
  }
  LOWRANK_UNROLLED
  for (int i = 0; i < 4; ++i) {
    v[i].value = _mm256_permute2f128_ps(quads[i], quads[i + 4], 0x20);
    v[i + 4].value = _mm256_permute2f128_ps(quads[i], quads[i + 4], 0x31);
  }
}

#else  // SSE2, NEON and others, by the compiler's vector extension

using Four [[gnu::vector_size(16)]] = float;

struct Vector {
#if defined(__aarch64__)
  static constexpr int kRegisters = 32;
#else
  static constexpr int kRegisters = 16;
#endif
  static constexpr int64_t kLanes = 4;
  Four value;
};

LOWRANK_INLINE Vector all(float number) { return {Four{number, number, number, number}}; }
LOWRANK_INLINE Vector load(const float* from, int64_t count = Vector::kLanes) {
  Vector v = all(0);
  std::memcpy(&v.value, from, static_cast<size_t>(count) * sizeof(float));
  return v;
}
LOWRANK_INLINE void store(float* to, Vector v, int64_t count = Vector::kLanes) {
  std::memcpy(to, &v.value, static_cast<size_t>(count) * sizeof(float));
}
LOWRANK_INLINE Vector multiply_add(Vector a, Vector b, Vector c) {
  return {a.value * b.value + c.value};
}
LOWRANK_INLINE Vector add(Vector a, Vector b) { return {a.value + b.value}; }
LOWRANK_INLINE Vector subtract(Vector a, Vector b) { return {a.value - b.value}; }
LOWRANK_INLINE Vector larger_magnitude(Vector a, Vector b) {
  const Four magnitude = b.value < 0 ? -b.value : b.value;
  return {magnitude > a.value ? magnitude : a.value};
}
LOWRANK_INLINE Vector rectified(Vector v) { return {v.value < 0 ? Four{} : v.value}; }
LOWRANK_INLINE Vector where_positive(Vector by, Vector v) {
  return {by.value <= 0 ? Four{} : v.value};
}

LOWRANK_INLINE void sums(const Vector (&v)[4], float* to) {
  for (int i = 0; i < 4; ++i) {
    to[i] = (v[i].value[0] + v[i].value[1]) + (v[i].value[2] + v[i].value[3]);
  }
}

#endif

LOWRANK_INLINE Vector zero() { return all(0); }

}  // namespace lowrank::kernels::LOWRANK_KERNELS
