#include "train/processes/received_file.h"

#include <fmt/format.h>
#include <lowrank/io/atomic_file.h>
#include <unistd.h>

#include <system_error>

namespace lowrank {

ReceivedFile::ReceivedFile(const std::string& bytes)
    : path_(std::filesystem::temp_directory_path() /
            fmt::format("lowrank-received-{}", ::getpid())) {
  write_file_atomically(path_, bytes);
}

ReceivedFile::~ReceivedFile() {
  std::error_code none;
  std::filesystem::remove(path_, none);
}

}  // namespace lowrank
