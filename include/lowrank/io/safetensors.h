#pragma once

#include <ATen/core/Tensor.h>
#include <lowrank/export.h>
#include <lowrank/io/atomic_file.h>
#include <lowrank/io/float8.h>

#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

/// Hugging Face's safetensors format, read and written as its reference implementation does
/// (github.com/huggingface/safetensors, safetensors/src/tensor.rs). Dtypes: F64 F32 F16 BF16 I64
/// I32 I16 I8 U8 BOOL, and F8_E4M3 and F8_E5M2, which are read as float32; others are refused by
/// name.
namespace lowrank {

struct SafetensorsEntry {
  std::string name;
  at::Tensor tensor;
  /// Stores a float32 tensor in numbers of 8 bits, rounded as float8_bytes() does.
  std::optional<Float8> float8 = {};
};

/// A file that is mapped into memory, so that opening it reads only its header. Copies of this
/// object are cheap.
///
/// The mapping is private. Tensors refer to its memory without a copy, and keep it alive after this
/// object is gone. Writing to a tensor never changes the file, but does change the other tensors
/// that were returned for the same name. While the mapping exists, no other process may truncate
/// the file (replacing it by a rename, as this library does, is safe).
class LOWRANK_API SafetensorsFile {
 public:
  /// Opens a file and checks the whole header against its size. Throws FileError that names the
  /// file and, if one is at fault, the tensor.
  static SafetensorsFile open(const std::filesystem::path& path);

  /// The names of the tensors, in the order of their data in the file.
  const std::vector<std::string>& names() const;
  bool contains(const std::string& name) const;
  /// Returns a contiguous CPU tensor with the file's shape and dtype (a copy only if the file does
  /// not align it to its element size, or stores it in numbers of 8 bits). Throws FileError for an
  /// unknown name, suggesting the nearest one, and for a BOOL tensor that holds bytes other than 0
  /// and 1.
  at::Tensor tensor(const std::string& name) const;
  /// Returns the dtype of a tensor in the format's own word: "BF16". Throws FileError for an
  /// unknown name.
  std::string format(const std::string& name) const;
  const std::vector<int64_t>& shape(const std::string& name) const;
  /// The header's "__metadata__"; empty if there is none.
  const std::map<std::string, std::string>& metadata() const;
  const std::filesystem::path& path() const;

 private:
  struct State;
  explicit SafetensorsFile(std::shared_ptr<const State> state);
  std::shared_ptr<const State> state_;
};

/// Returns the bytes of a file that holds `entries`. The tensors are ordered as in the reference
/// implementation (by dtype, widest first, then by name) and the metadata by key, so that the same
/// input gives the same bytes. Tensors may be on any device and have any strides. Throws
/// ArgumentError for a name that occurs twice or is reserved ("__metadata__"), and TensorError for
/// an undefined or sparse tensor, a dtype that the format does not have, or a name that is not
/// UTF-8.
LOWRANK_API std::string serialize_safetensors(
    const std::vector<SafetensorsEntry>& entries,
    const std::map<std::string, std::string>& metadata = {});

/// Writes the same to a file of a FileGroup, one tensor at a time.
LOWRANK_API void write_safetensors(AtomicFile& file, const std::vector<SafetensorsEntry>& entries,
                                   const std::map<std::string, std::string>& metadata = {});

/// Writes a file whose tensors are made one after the other, so that they need not be in memory
/// together. `content` returns the tensor to write for an entry, whose own tensor only says which
/// dtype and shape it will have; throws TensorError if it returns another.
LOWRANK_API void write_safetensors(
    AtomicFile& file, const std::vector<SafetensorsEntry>& entries,
    const std::map<std::string, std::string>& metadata,
    const std::function<at::Tensor(const SafetensorsEntry&)>& content);

/// Writes the same to a file of its own, atomically. Throws FileError as AtomicFile does.
LOWRANK_API void write_safetensors(const std::filesystem::path& path,
                                   const std::vector<SafetensorsEntry>& entries,
                                   const std::map<std::string, std::string>& metadata = {});

}  // namespace lowrank
