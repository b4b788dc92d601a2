#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <string>

#include "io/gguf/gguf_header.h"

/// What llama.cpp's converter does to a model's tensors (convert_hf_to_gguf.py and gguf-py's
/// tensor_mapping.py), undone: it renames them, reorders the rows of the queries and keys of
/// llama, transposes the Conv1D weights of gpt2, and adds 1 to the norms of gemma3.
namespace lowrank {

/// A tensor of a GGUF file as it is in transformers' model.
struct TensorInModel {
  std::string name;
  int64_t reordered_heads = 0;  ///< above 0: the rows of so many heads are in another order
  bool is_transposed = false;
  bool has_one_added = false;
};

class GgufNames {
 public:
  /// Throws FileError if the metadata lack the numbers of heads that an architecture needs.
  GgufNames(const io::GgufHeader& header, const std::filesystem::path& path);

  /// Returns the tensor under its own name if the architecture or the name is not known. Throws
  /// FileError for a shape that cannot be put back.
  TensorInModel of(const io::GgufTensorInfo& info) const;

 private:
  std::string architecture_, path_;
  int64_t heads_ = 0, key_heads_ = 0;
};

/// Undoes what the converter did to the numbers. Without a change this is the tensor itself.
at::Tensor as_in_model(const at::Tensor& tensor, const TensorInModel& in_model);

}  // namespace lowrank
