#pragma once

#include <filesystem>

namespace lowrank::app {

/// While this exists, no other command can take the folder to write a run to it. Makes the folder
/// if it does not exist; the destructor removes a folder that it made, if it is still empty.
/// Removes what killed commands have left in the folder. Throws FileError, naming the process, if
/// another one has the folder.
class FolderLock {
 public:
  explicit FolderLock(const std::filesystem::path& folder);
  ~FolderLock();
  FolderLock(const FolderLock&) = delete;
  FolderLock& operator=(const FolderLock&) = delete;

 private:
  std::filesystem::path folder_;
  bool is_made_ = false;
  int descriptor_ = -1;
};

}  // namespace lowrank::app
