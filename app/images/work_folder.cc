#include "app/images/work_folder.h"

#include <fmt/format.h>
#include <lowrank/error.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <system_error>

namespace lowrank::app {

namespace fs = std::filesystem;

WorkFolder::WorkFolder(const std::string& operation) {
  std::error_code error;
  const auto parent = fs::temp_directory_path(error);
  if (error) {
    const char* given = std::getenv("TMPDIR");
    fail<FileError>(operation, "TMPDIR must name a folder",
                    fmt::format("\"{}\"", given == nullptr ? "/tmp" : given));
  }
  std::string name = (parent / "lowrank-work-XXXXXX").string();
  if (::mkdtemp(name.data()) == nullptr) {
    fail<FileError>(operation, "a temporary folder must be writable",
                    fmt::format("{} for {}", std::generic_category().message(errno), name),
                    "Set TMPDIR to a folder with space.");
  }
  path_ = name;
}

WorkFolder::~WorkFolder() {
  std::error_code ignored;
  fs::remove_all(path_, ignored);
}

}  // namespace lowrank::app
