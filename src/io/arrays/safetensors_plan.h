#pragma once

#include <ATen/core/Tensor.h>
#include <lowrank/io/safetensors.h>

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace lowrank::io {

/// Where a file's header and tensors go.
struct SafetensorsPlan {
  struct Place {
    const SafetensorsEntry* entry;
    uint64_t begin, end;  // from the start of the file
  };

  std::string header;  // the first bytes of the file
  std::vector<Place> tensors;
  uint64_t size() const { return tensors.empty() ? header.size() : tensors.back().end; }
};

/// Throws what serialize_safetensors() throws. The plan refers to the entries.
SafetensorsPlan plan_safetensors(const std::vector<SafetensorsEntry>& entries,
                                 const std::map<std::string, std::string>& metadata);

/// Returns the tensor whose bytes are written for an entry, contiguous and on the CPU. Throws
/// TensorError unless it has the dtype and shape of the entry's own.
at::Tensor as_announced(const SafetensorsEntry& entry, const at::Tensor& tensor);

}  // namespace lowrank::io
