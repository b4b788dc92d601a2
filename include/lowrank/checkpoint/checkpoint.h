#pragma once

#include <ATen/core/Tensor.h>
#include <lowrank/export.h>

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace lowrank {

/// What a checkpoint says of a tensor before a number is read.
struct StoredTensor {
  std::string format = {};            ///< the file's own word for its numbers: "BF16", "Q4_1"
  at::ScalarType dtype = at::kFloat;  ///< of Checkpoint::tensor()
  std::vector<int64_t> shape = {};
  uint64_t bytes = 0;  ///< in the file
};

/// A model's weights on disk as named tensors. Copies of this object are cheap.
///
/// The place is one file, or a folder with model.safetensors or with shards and
/// model.safetensors.index.json, as transformers writes them. A file is of one of these formats:
///   safetensors;
///   GGUF, with numbers of F32, F16, BF16, F64, whole numbers, or blocks of Q8_0, Q4_0 and Q4_1.
///     Tensors of the architectures llama, qwen2, qwen3, gpt2 and gemma3 get the names, the order
///     of rows and the orientation that transformers gives them; others keep those of the file;
///   .npy, whose one tensor is called "weight".
/// An .npy file is read whole. The other files are mapped into memory, so that opening a checkpoint
/// reads only the headers, and a tensor takes no memory until its numbers are read (blocks are
/// widened to float32 each time).
class LOWRANK_API Checkpoint {
 public:
  /// Throws FileError if there is no checkpoint at this place, if a file is damaged, if the index
  /// names a file or tensor that is not there or leaves one out, and for a name in two shards.
  static Checkpoint open(const std::filesystem::path& place);
  /// Returns a checkpoint of tensors that are in memory: those of a model that was loaded from
  /// `place` by other means, such as a TorchScript file.
  static Checkpoint from_tensors(const std::filesystem::path& place,
                                 const std::vector<std::pair<std::string, at::Tensor>>& tensors);

  /// The names of all tensors: file after file, in the order of their data.
  const std::vector<std::string>& names() const;
  bool contains(const std::string& name) const;
  /// Returns a tensor as SafetensorsFile::tensor() does.
  at::Tensor tensor(const std::string& name) const;
  /// Throws FileError for an unknown name.
  StoredTensor stored(const std::string& name) const;

  const std::filesystem::path& place() const;
  bool is_folder() const;
  /// Whether all files are safetensors, the only format that is written.
  bool is_safetensors() const;
  /// The files that hold the tensors, in their order, by their names in the folder; if the place is
  /// one file, its name.
  const std::vector<std::filesystem::path>& files() const;
  /// The names of the tensors of files()[file], and its metadata.
  const std::vector<std::string>& names_in(size_t file) const;
  const std::map<std::string, std::string>& metadata_of(size_t file) const;

 private:
  struct State;
  explicit Checkpoint(std::shared_ptr<const State> state);
  std::shared_ptr<const State> state_;
};

/// Throws FileError, with `operation` in its message, if the tensor `name` is not a weight by
/// itself, because another tensor of the checkpoint scales its numbers (as NAME_scale_inv scales
/// those of 8 bits).
LOWRANK_API void require_unscaled(const Checkpoint& checkpoint, const std::string& name,
                                  const char* operation);

/// Returns the paths of a checkpoint's files, the folder first if it is one.
LOWRANK_API std::vector<std::filesystem::path> files_of(const Checkpoint& checkpoint);

}  // namespace lowrank
