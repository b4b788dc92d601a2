#include "io/files/system_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <lowrank/error.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <nlohmann/json.hpp>
#include <system_error>
#include <utility>

namespace lowrank::io {

Descriptor& Descriptor::operator=(Descriptor&& other) noexcept {
  if (this != &other) {
    close();
    number_ = other.release();
  }
  return *this;
}

int Descriptor::release() { return std::exchange(number_, -1); }

int Descriptor::close() {
  // Linux frees the descriptor whatever close() returns, so close() is never called twice.
  const int number = release();
  return number >= 0 && ::close(number) != 0 ? errno : 0;
}

std::string quoted(std::string_view text) {
  constexpr size_t kMost = 300;
  std::string shown(text.substr(0, kMost));
  if (text.size() > kMost) shown += "...";
  return nlohmann::json(shown).dump(-1, ' ', /*ensure_ascii=*/false,
                                    nlohmann::json::error_handler_t::replace);
}

std::string quoted(const std::string& text) { return quoted(std::string_view(text)); }

std::string quoted(const std::filesystem::path& path) {
  return quoted(std::string_view(path.native()));
}

std::string system_error_text(int error_number) {
  return std::generic_category().message(error_number);
}

std::string count_bytes(uint64_t bytes) {
  return fmt::format("{} byte{}", bytes, bytes == 1 ? "" : "s");
}

ReadableFile open_for_reading(const std::filesystem::path& path, std::string_view operation,
                              Pipes pipes) {
  const int waits = pipes == Pipes::kRead ? 0 : O_NONBLOCK;
  int number = -1;
  do {
    number = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | waits);
  } while (number < 0 && errno == EINTR);
  struct stat status = {};
  if (number < 0 || ::fstat(number, &status) != 0) {
    const int error_number = errno;
    const Descriptor closes_it(number);
    const char* required = error_number == ENOENT ? "exist" : "be readable";
    fail<FileError>(operation, fmt::format("the file {} must {}", quoted(path), required),
                    quoted(system_error_text(error_number)));
  }
  ReadableFile file{Descriptor(number), 0, S_ISREG(status.st_mode)};
  const bool folder = S_ISDIR(status.st_mode);
  if (folder || (!file.is_regular && pipes == Pipes::kRefused)) {
    fail<FileError>(operation, quoted(path) + " must be a file",
                    folder ? "a folder" : "something else");
  }
  file.size = file.is_regular ? static_cast<uint64_t>(status.st_size) : 0;
  return file;
}

void fail_write(const std::filesystem::path& path, int error_number) {
  const std::string found = quoted(system_error_text(error_number));
  if (error_number == ENOSPC || error_number == EDQUOT) {
    fail<FileError>("output", fmt::format("the disk must have room for {}", quoted(path)), found,
                    "The disk is full: free some space or write elsewhere.");
  }
  if (error_number == EFBIG) {
    fail<FileError>("output", fmt::format("{} must fit into the limit on file sizes", quoted(path)),
                    found, "See ulimit -f.");
  }
  fail<FileError>("output", fmt::format("{} must be writable", quoted(path)), found);
}

void write_all(const Descriptor& file, std::string_view bytes, const std::filesystem::path& path) {
  while (!bytes.empty()) {
    const ssize_t written = ::write(file.number(), bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) fail_write(path, errno);
    bytes.remove_prefix(static_cast<size_t>(written));
  }
}

}  // namespace lowrank::io
