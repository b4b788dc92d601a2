#pragma once

#include <lowrank/io/file_bytes.h>

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

/// Shared by the files of this folder: a file descriptor that closes itself, and the wording of
/// names and system errors in messages.
namespace lowrank::io {

/// An open file descriptor, which the destructor closes.
class Descriptor {
 public:
  Descriptor() = default;
  explicit Descriptor(int number) : number_(number) {}
  ~Descriptor() { close(); }
  Descriptor(Descriptor&& other) noexcept : number_(other.release()) {}
  Descriptor& operator=(Descriptor&& other) noexcept;
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;

  int number() const { return number_; }
  bool is_open() const { return number_ >= 0; }
  int release();
  /// Returns 0, or the errno of a failed close.
  int close();

 private:
  int number_ = -1;
};

/// `text` in double quotes, with control characters and invalid UTF-8 escaped, and shortened if it
/// is very long: names come from untrusted files and must stay on one line.
std::string quoted(std::string_view text);
std::string quoted(const std::string& text);
std::string quoted(const std::filesystem::path& path);

/// "No such file or directory" for ENOENT, and so on.
std::string system_error_text(int error_number);

/// "1 byte", "12 bytes".
std::string count_bytes(uint64_t bytes);

/// An open file that can be read, and its size (0 for a pipe or a device). open_for_reading()
/// throws a FileError with `operation` if the file is missing, a folder, not readable, or a pipe or
/// device that is refused. It never waits for the writer of a pipe that it refuses.
struct ReadableFile {
  Descriptor descriptor;
  uint64_t size = 0;
  bool is_regular = false;
};
ReadableFile open_for_reading(const std::filesystem::path& path, std::string_view operation,
                              Pipes pipes = Pipes::kRefused);

/// Writes all of `bytes`. Throws a FileError about `path`, which says so if the disk is full.
void write_all(const Descriptor& file, std::string_view bytes, const std::filesystem::path& path);

/// Throws the FileError for a failed write to `path`, which says so if the disk is full.
[[noreturn]] void fail_write(const std::filesystem::path& path, int error_number);

}  // namespace lowrank::io
