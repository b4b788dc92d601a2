#pragma once

#include <filesystem>
#include <string>

namespace lowrank {

/// A file of its own in the folder for temporary files, for as long as this lives.
class ReceivedFile {
 public:
  /// Throws FileError if it cannot be written.
  explicit ReceivedFile(const std::string& bytes);
  ~ReceivedFile();
  ReceivedFile(const ReceivedFile&) = delete;
  ReceivedFile& operator=(const ReceivedFile&) = delete;

  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

}  // namespace lowrank
