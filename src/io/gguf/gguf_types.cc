#include "io/gguf/gguf_types.h"

#include <fmt/format.h>

#include <array>
#include <cstring>
#include <string_view>
#include <utility>

// This file is compiled without the contraction of d·q + m into one operation, which would round
// once where llama.cpp and Python's gguf round twice.

namespace lowrank::io {
namespace {

constexpr int64_t kBlock = 32;

/// The float16 number at `bytes`, widened.
float half_at(const char* bytes) {
  c10::Half half;
  std::memcpy(&half, bytes, sizeof half);
  return half;
}

/// Numbers q of 8 bits: d·q.
void decode_q8_0(const char* block, float* numbers) {
  const float d = half_at(block);
  const auto* q = reinterpret_cast<const signed char*>(block + 2);
  for (int64_t i = 0; i < kBlock; ++i) numbers[i] = d * static_cast<float>(q[i]);
}

/// Numbers q of 4 bits, the first half of them in the lower bits: d·(q - 8).
void decode_q4_0(const char* block, float* numbers) {
  const float d = half_at(block);
  const auto* q = reinterpret_cast<const unsigned char*>(block + 2);
  for (int64_t i = 0; i < kBlock / 2; ++i) {
    numbers[i] = d * static_cast<float>((q[i] & 15) - 8);
    numbers[i + kBlock / 2] = d * static_cast<float>((q[i] >> 4) - 8);
  }
}

/// Numbers q of 4 bits: d·q + m.
void decode_q4_1(const char* block, float* numbers) {
  const float d = half_at(block), m = half_at(block + 2);
  const auto* q = reinterpret_cast<const unsigned char*>(block + 4);
  for (int64_t i = 0; i < kBlock / 2; ++i) {
    numbers[i] = d * static_cast<float>(q[i] & 15) + m;
    numbers[i + kBlock / 2] = d * static_cast<float>(q[i] >> 4) + m;
  }
}

constexpr std::array<GgufType, 11> kTypes = {{
    {0, "F32", 1, 4, at::kFloat, nullptr},
    {1, "F16", 1, 2, at::kHalf, nullptr},
    {2, "Q4_0", kBlock, 18, at::kFloat, decode_q4_0},
    {3, "Q4_1", kBlock, 20, at::kFloat, decode_q4_1},
    {8, "Q8_0", kBlock, 34, at::kFloat, decode_q8_0},
    {24, "I8", 1, 1, at::kChar, nullptr},
    {25, "I16", 1, 2, at::kShort, nullptr},
    {26, "I32", 1, 4, at::kInt, nullptr},
    {27, "I64", 1, 8, at::kLong, nullptr},
    {28, "F64", 1, 8, at::kDouble, nullptr},
    {30, "BF16", 1, 2, at::kBFloat16, nullptr},
}};

/// The names of ggml's types that are not read, by number.
constexpr std::array<std::pair<uint32_t, std::string_view>, 22> kOthers = {{
    {6, "Q5_0"},   {7, "Q5_1"},    {9, "Q8_1"},   {10, "Q2_K"},    {11, "Q3_K"},   {12, "Q4_K"},
    {13, "Q5_K"},  {14, "Q6_K"},   {15, "Q8_K"},  {16, "IQ2_XXS"}, {17, "IQ2_XS"}, {18, "IQ3_XXS"},
    {19, "IQ1_S"}, {20, "IQ4_NL"}, {21, "IQ3_S"}, {22, "IQ2_S"},   {23, "IQ4_XS"}, {29, "IQ1_M"},
    {34, "TQ1_0"}, {35, "TQ2_0"},  {39, "MXFP4"}, {40, "NVFP4"},
}};

}  // namespace

const GgufType* gguf_type(uint32_t id) {
  for (const auto& type : kTypes) {
    if (type.id == id) return &type;
  }
  return nullptr;
}

std::string gguf_type_name(uint32_t id) {
  if (const auto* type = gguf_type(id)) return type->name;
  for (const auto& [other, name] : kOthers) {
    if (other == id) return std::string(name);
  }
  return fmt::format("type {}", id);
}

std::string known_gguf_types() {
  std::string names;
  for (const auto& type : kTypes) names += (names.empty() ? "" : ", ") + std::string(type.name);
  return names;
}

}  // namespace lowrank::io
