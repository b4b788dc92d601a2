#include "app/runs/folder_lock.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <lowrank/error.h>
#include <lowrank/io/atomic_file.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <fstream>
#include <sstream>
#include <string>
#include <system_error>

namespace lowrank::app {
namespace {

/// The process that holds a lock on this file, as /proc/locks says; empty if it does not say.
std::string holder_of(int descriptor) {
  struct stat status = {};
  if (::fstat(descriptor, &status) != 0) return "";
  const auto inode = fmt::format(":{}", status.st_ino);
  std::ifstream locks("/proc/locks");
  for (std::string line; std::getline(locks, line);) {
    std::istringstream words(line);
    std::string number, kind, mode, type, process, file;
    words >> number >> kind >> mode >> type >> process >> file;
    if (kind == "FLOCK" && file.ends_with(inode)) return process;
  }
  return "";
}

}  // namespace

FolderLock::FolderLock(const std::filesystem::path& folder) : folder_(folder) {
  std::error_code error;
  is_made_ = std::filesystem::create_directories(folder_, error);
  if (!error) descriptor_ = ::open(folder_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (descriptor_ < 0) {
    const auto reason = error ? error.message() : std::generic_category().message(errno);
    fail<FileError>("output", fmt::format("\"{}\" must be a folder to write to", folder_.string()),
                    fmt::format("\"{}\"", reason));
  }
  if (::flock(descriptor_, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) {
    const auto holder = holder_of(descriptor_);
    ::close(descriptor_);
    fail<FileError>("output",
                    fmt::format("\"{}\" must not be in use by another command", folder_.string()),
                    holder.empty() ? "one that is writing to it"
                                   : fmt::format("process {}, which is writing to it", holder),
                    "Wait for it to end, or choose another --out.");
  }  // a file system without locks is used without one
  remove_stale_files(folder_);
}

FolderLock::~FolderLock() {
  ::close(descriptor_);
  if (is_made_) ::rmdir(folder_.c_str());
}

}  // namespace lowrank::app
