#include <fmt/format.h>
#include <lowrank/error.h>
#include <lowrank/io/file_bytes.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "io/files/system_file.h"

namespace lowrank {
namespace {

[[noreturn]] void fail_too_long(const std::filesystem::path& path, uint64_t most_bytes,
                                const std::string& found) {
  fail<FileError>(
      "file",
      fmt::format("{} must be at most {} long", io::quoted(path), io::count_bytes(most_bytes)),
      found);
}

}  // namespace

std::string read_file(const std::filesystem::path& path, uint64_t most_bytes, Pipes pipes,
                      const std::function<void(std::string_view)>& check) {
  const io::ReadableFile file = io::open_for_reading(path, "file", pipes);
  if (file.size > most_bytes) fail_too_long(path, most_bytes, io::count_bytes(file.size));

  // A pipe has no size, and a file may grow while it is read, so the buffer grows with what
  // arrives.
  constexpr size_t kChunk = size_t{1} << 16;
  std::string bytes(static_cast<size_t>(file.size) + (file.is_regular ? 1 : kChunk), '\0');
  size_t filled = 0;
  while (true) {
    if (filled == bytes.size()) bytes.resize(bytes.size() + std::max(kChunk, filled));
    const ssize_t got =
        ::read(file.descriptor.number(), bytes.data() + filled, bytes.size() - filled);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) {
      const std::string found = io::quoted(io::system_error_text(errno));
      fail<FileError>("file", fmt::format("the file {} must be readable", io::quoted(path)), found);
    }
    if (got == 0) break;
    filled += static_cast<size_t>(got);
    if (filled > most_bytes) fail_too_long(path, most_bytes, "more");
    if (check) check(std::string_view(bytes).substr(0, filled));
  }
  bytes.resize(filled);
  return bytes;
}

}  // namespace lowrank
