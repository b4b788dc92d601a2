#pragma once

#include <zlib.h>

#include <array>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>

namespace lowrank::app {

/// Reads a regular file from start to end; if its content (not its name) is gzip, reads the
/// inflated bytes. Only what the caller asks for is inflated, so a gzip bomb does no harm.
class InputFile {
 public:
  /// Throws FileError, prefixed with `operation`, if `path` is missing, a folder or unreadable.
  InputFile(const std::filesystem::path& path, std::string_view operation);
  ~InputFile();
  InputFile(const InputFile&) = delete;
  InputFile& operator=(const InputFile&) = delete;

  /// Writes up to `bytes` bytes to `to` and returns how many; fewer only at the end of the content.
  /// Throws FileError if a gzip stream is truncated, corrupt or followed by anything but another
  /// one.
  size_t read(void* to, size_t bytes);

  bool compressed() const { return compressed_; }

  /// Returns the most bytes that `read` can give in all: the exact size of an uncompressed file, an
  /// upper bound for a gzip file.
  uint64_t most_bytes() const;

 private:
  size_t inflate_into(void* to, size_t bytes);
  bool refill();
  bool begin_next_member();
  [[noreturn]] void fail_stream(std::string_view found) const;

  std::filesystem::path path_;
  std::string operation_;
  uint64_t size_ = 0;  // declared before file_, so that a pipe is refused and never opened
  std::ifstream file_;
  bool compressed_ = false;
  bool ended_ = false;
  z_stream stream_{};
  std::array<unsigned char, 1 << 16> buffer_;
};

/// Returns the whole content, inflated if it is gzip. Throws FileError if it is longer than
/// `most_bytes`.
std::string read_content(const std::filesystem::path& path, uint64_t most_bytes,
                         std::string_view operation);

}  // namespace lowrank::app
