#pragma once

#include <filesystem>
#include <string_view>

#include "io/files/system_file.h"

namespace lowrank {

/// A file that grows at its end, with one system call for each record.
class AppendedFile {
 public:
  /// Opens the file, or makes it. Throws FileError if it cannot be written.
  explicit AppendedFile(std::filesystem::path path);

  void append(std::string_view record);

 private:
  std::filesystem::path path_;
  io::Descriptor file_;
};

}  // namespace lowrank
