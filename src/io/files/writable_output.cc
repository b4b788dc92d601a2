#include <fmt/format.h>
#include <lowrank/error.h>
#include <lowrank/io/atomic_file.h>

#include <iterator>
#include <system_error>
#include <vector>

#include "io/files/replacement_file.h"
#include "io/files/system_file.h"

namespace lowrank {
namespace fs = std::filesystem;
namespace {

constexpr const char* kUseForce = "Pass --force to replace it.";

void require_nothing_lost(const fs::path& out, const fs::file_status& status) {
  std::error_code error;
  const std::string required = io::quoted(out) + " must not exist yet, or be empty";
  if (fs::is_directory(status)) {
    const auto entries = std::distance(fs::directory_iterator(out, error), {});
    if (error) io::fail_write(out, error.value());
    if (entries > 0) {
      fail<FileError>(
          "output", required,
          fmt::format("a folder with {} {}", entries, entries == 1 ? "entry" : "entries"),
          kUseForce);
    }
  } else if (!fs::is_regular_file(status)) {
    fail<FileError>("output", io::quoted(out) + " must be a file or a folder", "something else");
  } else if (const auto size = fs::file_size(out, error); error || size > 0) {
    fail<FileError>("output", required,
                    error ? error.message() : "a file of " + io::count_bytes(size), kUseForce);
  }
}

/// The folder in which the first new name would appear.
fs::path first_folder(const fs::path& out, const fs::file_status& status) {
  if (fs::is_directory(status)) return out;
  const std::vector<fs::path> missing = io::missing_folders(out);
  return io::folder_of(missing.empty() ? out : missing.back());
}

}  // namespace

void require_writable_output(const fs::path& asked, bool force) {
  if (asked.empty()) fail<FileError>("output", "the output must have a name", "an empty one");
  const fs::path out = io::without_trailing_slash(asked);
  std::error_code error;
  const fs::file_status status = fs::status(out, error);
  if (!fs::status_known(status)) io::fail_write(out, error.value());
  if (!force && fs::exists(status)) require_nothing_lost(out, status);

  const fs::path folder = first_folder(out, status);
  if (!fs::is_directory(folder, error)) {
    fail<FileError>("output", fmt::format("{} must lie in a folder", io::quoted(out)),
                    fmt::format("{}, which is a file", io::quoted(folder)));
  }
  const io::ReplacementFile probe(fs::is_directory(status) ? out / "probe"
                                                           : folder / out.filename());
}

}  // namespace lowrank
