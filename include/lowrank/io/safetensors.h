#pragma once

#include <ATen/core/Tensor.h>
#include <lowrank/export.h>
#include <lowrank/io/atomic_file.h>

#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

/// Hugging Face's safetensors format, read and written as its reference implementation does
/// (github.com/huggingface/safetensors, safetensors/src/tensor.rs). Dtypes: F64 F32 F16 BF16 I64
/// I32 I16 I8 U8 BOOL; others are refused by name.
namespace lowrank {

struct SafetensorsEntry {
  std::string name;
  at::Tensor tensor;
};

/// A file that is mapped into memory, not read: opening costs only its header. Cheap to copy.
///
/// The mapping is private. Tensors are its memory, without a copy; they may be written to, which
/// never changes the file, but does change the other tensors given out for the same name; they keep
/// the mapping alive after this object is gone. While it lives the file must not be cut short by
/// another process (replacing it by a rename, as this library does, is safe).
class LOWRANK_API SafetensorsFile {
 public:
  /// Checks the whole header against the file's size before any tensor can be asked for. Throws
  /// FileError that names the file, and the tensor where one is at fault.
  static SafetensorsFile open(const std::filesystem::path& path);

  /// In the order of the data in the file.
  const std::vector<std::string>& names() const;
  bool contains(const std::string& name) const;
  /// A contiguous CPU tensor with the file's shape and dtype (a copy only where the file does not
  /// align it to its element size). Throws FileError for an unknown name, with the nearest one, and
  /// for a BOOL tensor that holds other bytes than 0 and 1.
  at::Tensor tensor(const std::string& name) const;
  /// The header's "__metadata__"; empty where there is none.
  const std::map<std::string, std::string>& metadata() const;
  const std::filesystem::path& path() const;

 private:
  struct State;
  explicit SafetensorsFile(std::shared_ptr<const State> state);
  std::shared_ptr<const State> state_;
};

/// The bytes of a file that holds `entries`, ordered as the reference implementation does (by
/// dtype, widest first, then by name) with metadata by key: the same input gives the same bytes.
/// Tensors may lie on any device, with any strides.
/// Throws ArgumentError for a name that comes twice or is reserved ("__metadata__"), TensorError
/// for an undefined or sparse tensor, a dtype the format does not know, or a name that is not
/// UTF-8.
LOWRANK_API std::string serialize_safetensors(
    const std::vector<SafetensorsEntry>& entries,
    const std::map<std::string, std::string>& metadata = {});

/// The same into a file of a group, one tensor at a time.
LOWRANK_API void write_safetensors(AtomicFile& file, const std::vector<SafetensorsEntry>& entries,
                                   const std::map<std::string, std::string>& metadata = {});

/// The same into one file, atomically. Throws FileError as AtomicFile does.
LOWRANK_API void write_safetensors(const std::filesystem::path& path,
                                   const std::vector<SafetensorsEntry>& entries,
                                   const std::map<std::string, std::string>& metadata = {});

}  // namespace lowrank
