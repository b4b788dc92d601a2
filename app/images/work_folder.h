#pragma once

#include <filesystem>
#include <string>

namespace lowrank::app {

/// A temporary folder for what other programs write; it is deleted with everything in it.
class WorkFolder {
 public:
  /// `operation` is the word in brackets of messages. Throws FileError if there is no place for
  /// temporary files, or none that can be written.
  explicit WorkFolder(const std::string& operation);
  ~WorkFolder();
  WorkFolder(const WorkFolder&) = delete;
  WorkFolder& operator=(const WorkFolder&) = delete;
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

}  // namespace lowrank::app
