#pragma once

#include <cstddef>
#include <filesystem>
#include <string_view>

namespace lowrank::io {

/// A whole file in memory, private: pages are read when touched, copied when written to, and the
/// file never changes.
class MappedFile {
 public:
  /// Throws FileError with `operation` where the file cannot be opened or mapped.
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
