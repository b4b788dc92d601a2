#include "io/gguf/gguf_types.h"

#include <fmt/format.h>

#include <array>
#include <string_view>
#include <utility>

namespace lowrank::io {
namespace {

using kernels::CompactFormat;

constexpr GgufType in_blocks(uint32_t id, const char* name, CompactFormat format) {
  const auto block = kernels::block_of(format);
  return {id, name, block.numbers, static_cast<size_t>(block.bytes), at::kFloat, format};
}

constexpr std::array<GgufType, 11> kTypes = {{
    {0, "F32", 1, 4, at::kFloat, {}},
    {1, "F16", 1, 2, at::kHalf, {}},
    in_blocks(2, "Q4_0", CompactFormat::kQ4_0),
    in_blocks(3, "Q4_1", CompactFormat::kQ4_1),
    in_blocks(8, "Q8_0", CompactFormat::kQ8_0),
    {24, "I8", 1, 1, at::kChar, {}},
    {25, "I16", 1, 2, at::kShort, {}},
    {26, "I32", 1, 4, at::kInt, {}},
    {27, "I64", 1, 8, at::kLong, {}},
    {28, "F64", 1, 8, at::kDouble, {}},
    {30, "BF16", 1, 2, at::kBFloat16, {}},
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
