#pragma once

#include <ATen/core/Tensor.h>
#include <lowrank/checkpoint/checkpoint.h>

#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace lowrank {

/// One file of a checkpoint, whatever its format.
class TensorFile {
 public:
  TensorFile() = default;
  virtual ~TensorFile() = default;
  TensorFile(const TensorFile&) = delete;
  TensorFile& operator=(const TensorFile&) = delete;

  /// The names of the tensors, in the order of their data.
  virtual const std::vector<std::string>& names() const = 0;
  /// Both take a name of names().
  virtual at::Tensor tensor(const std::string& name) const = 0;
  virtual StoredTensor stored(const std::string& name) const = 0;
  virtual const std::map<std::string, std::string>& metadata() const = 0;
  virtual bool is_safetensors() const { return false; }
};

/// Opens a file by what its first bytes say it is; as safetensors where they say nothing. Throws
/// FileError as the formats' readers do.
std::unique_ptr<TensorFile> open_tensor_file(const std::filesystem::path& path);

/// Returns tensors as if they were those of a file.
std::unique_ptr<TensorFile> tensors_in_memory(
    const std::vector<std::pair<std::string, at::Tensor>>& tensors);

}  // namespace lowrank
