#pragma once

#include <lowrank/io/file_bytes.h>

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

/// What the files of this layer share: a file descriptor that closes itself, and names and system
/// errors as they stand in messages.
namespace lowrank::io {

/// An open file descriptor, closed at the end of its life.
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
  /// Gives 0, or the errno of a failed close.
  int close();

 private:
  int number_ = -1;
};

/// `text` in double quotes with control characters and invalid UTF-8 escaped, shortened where it
/// is very long: names come from untrusted files and must stay one line.
std::string quoted(std::string_view text);
std::string quoted(const std::string& text);
std::string quoted(const std::filesystem::path& path);

/// "No such file or directory" for ENOENT, and so on.
std::string system_error_text(int error_number);

/// "1 byte", "12 bytes".
std::string count_bytes(uint64_t bytes);

/// A descriptor of an existing file that can be read, its size in `size`; `operation` stands in
/// the message of the FileError where the file is missing, a folder, not readable, or a pipe or
/// device that is refused. Refusing never waits, also not for the writer of a pipe.
struct ReadableFile {
  Descriptor descriptor;
  uint64_t size = 0;
  bool is_regular = false;
};
ReadableFile open_for_reading(const std::filesystem::path& path, std::string_view operation,
                              Pipes pipes = Pipes::kRefused);

/// Writes all of `bytes`; `path` is the name for the FileError, which says so where the disk is
/// full.
void write_all(const Descriptor& file, std::string_view bytes, const std::filesystem::path& path);

/// The FileError of a failed write of `path`: a full disk is named as such.
[[noreturn]] void fail_write(const std::filesystem::path& path, int error_number);

}  // namespace lowrank::io
