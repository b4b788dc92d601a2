#pragma once

#include <cstddef>
#include <filesystem>
#include <string_view>

namespace lowrank::io {

/// A whole file, mapped into memory privately: a page is read when it is touched and copied when it
/// is written to, and the file never changes.
class MappedFile {
 public:
  /// Throws a FileError with `operation` if the file cannot be opened or mapped.
  MappedFile(const std::filesystem::path& path, std::string_view operation);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  std::string_view bytes() const { return {data_, size_}; }
  char* data() const { return data_; }

 private:
  char* data_ = nullptr;
  size_t size_ = 0;
};

}  // namespace lowrank::io
