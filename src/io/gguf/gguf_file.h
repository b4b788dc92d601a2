#pragma once

#include <ATen/core/Tensor.h>

#include <filesystem>
#include <memory>
#include <string>

#include "io/files/mapped_file.h"
#include "io/gguf/gguf_header.h"

namespace lowrank::io {

/// A GGUF file that is mapped into memory, so that opening it reads only its header.
class GgufFile {
 public:
  /// Throws FileError as parse_gguf_header() does.
  explicit GgufFile(const std::filesystem::path& path);

  const GgufHeader& header() const { return header_; }

  /// Returns a tensor of header(). Blocks are widened to float32, into new memory; all other
  /// numbers stay where the file is mapped, as SafetensorsFile has it.
  at::Tensor tensor(const GgufTensorInfo& info) const;

 private:
  std::shared_ptr<MappedFile> mapping_;
  GgufHeader header_;
};

/// Returns whether a file begins as GGUF files do; false if it cannot be read.
bool is_gguf(const std::filesystem::path& path);

}  // namespace lowrank::io
