#include "train/log/appended_file.h"

#include <fcntl.h>

#include <cerrno>
#include <utility>

namespace lowrank {

AppendedFile::AppendedFile(std::filesystem::path path) : path_(std::move(path)) {
  file_ = io::Descriptor(
      ::open(path_.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0666));
  if (!file_.is_open()) io::fail_write(path_, errno);
}

void AppendedFile::append(std::string_view record) { io::write_all(file_, record, path_); }

}  // namespace lowrank
