#pragma once

#include <zlib.h>

#include <array>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>

namespace lowrank::app {

/// A regular file's bytes from front to back; where the content (not the name) is gzip, the
/// inflated bytes. Nothing is taken that the caller did not ask for, so a bomb stays compressed.
class InputFile {
 public:
  /// Throws FileError, prefixed with `operation`, where `path` is missing, a folder or unreadable.
  InputFile(const std::filesystem::path& path, std::string_view operation);
  ~InputFile();
  InputFile(const InputFile&) = delete;
  InputFile& operator=(const InputFile&) = delete;

  /// Writes up to `bytes` bytes to `to`; fewer only at the end of the content. Throws FileError
  /// where a gzip stream is truncated, corrupt or followed by anything but another one.
  size_t read(void* to, size_t bytes);

  bool compressed() const { return compressed_; }

  /// What `read` can give in all: exact for a plain file. A gzip file holds at most this much.
  uint64_t most_bytes() const;

 private:
  size_t inflate_into(void* to, size_t bytes);
  bool refill();
  bool begin_next_member();
  [[noreturn]] void fail_stream(std::string_view found) const;

  std::filesystem::path path_;
  std::string operation_;
  uint64_t size_ = 0;  // before file_: what is no regular file (a pipe) is never opened
  std::ifstream file_;
  bool compressed_ = false;
  bool ended_ = false;
  z_stream stream_{};
  std::array<unsigned char, 1 << 16> buffer_;
};

/// The whole (inflated) content. Throws FileError where it is longer than `most_bytes`.
std::string read_content(const std::filesystem::path& path, uint64_t most_bytes,
                         std::string_view operation);

}  // namespace lowrank::app
