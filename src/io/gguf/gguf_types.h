#pragma once

#include <c10/core/ScalarType.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>

#include "kernels/tiles/compact_format.h"

namespace lowrank::io {

/// How GGUF stores the numbers of a tensor: one by one, or in blocks of numbers that share a scale
/// (ggml-org/ggml, ggml-common.h and ggml-quants.c).
struct GgufType {
  uint32_t id;
  const char* name;
  int64_t block_numbers;  // numbers of a block; 1 if each is stored by itself
  size_t block_bytes;
  at::ScalarType dtype;                          // of the tensor that is read: float32 for blocks
  std::optional<kernels::CompactFormat> blocks;  // none where numbers are stored by themselves
};

/// Returns the type with this number, or nullptr for one that is not read.
const GgufType* gguf_type(uint32_t id);

/// Returns "Q6_K" for 14, or "type 99" for a number that is not known.
std::string gguf_type_name(uint32_t id);

/// Returns the names of all types that are read: "F32, F16, …".
std::string known_gguf_types();

}  // namespace lowrank::io
