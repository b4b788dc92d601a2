#include "app/images/input_file.h"

#include <fmt/format.h>
#include <lowrank/error.h>

#include <algorithm>
#include <limits>
#include <new>

namespace lowrank::app {
namespace {

/// Deflate compresses 1032 bytes to one at best (zlib's technical notes).
constexpr uint64_t kMostInflation = 1032;
/// A window of 15 bits; adding 16 asks for a gzip header instead of a zlib one (zlib.h,
/// inflateInit2).
constexpr int kGzipWindow = 15 + 16;

uint64_t checked_size(const std::filesystem::path& path, std::string_view operation) {
  std::error_code error;
  const auto status = std::filesystem::status(path, error);
  if (status.type() == std::filesystem::file_type::not_found) {
    fail<FileError>(operation, fmt::format("{} must exist", path.string()), "no such file");
  }
  if (status.type() != std::filesystem::file_type::regular) {
    fail<FileError>(operation, fmt::format("{} must be a file", path.string()),
                    std::filesystem::is_directory(status) ? "a folder"
                    : error                               ? error.message()
                                                          : "something else");
  }
  const uint64_t size = std::filesystem::file_size(path, error);
  if (error) {
    fail<FileError>(operation, fmt::format("{} must be readable", path.string()), error.message());
  }
  return size;
}

}  // namespace

InputFile::InputFile(const std::filesystem::path& path, std::string_view operation)
    : path_(path),
      operation_(operation),
      size_(checked_size(path, operation)),
      file_(path, std::ios::binary) {
  if (!file_) {
    fail<FileError>(operation_, fmt::format("{} must be readable", path_.string()),
                    "a file that could not be opened", "Check its permissions.");
  }
  if (!refill()) return;
  compressed_ = stream_.avail_in >= 2 && buffer_[0] == 0x1f && buffer_[1] == 0x8b;
  if (compressed_ && inflateInit2(&stream_, kGzipWindow) != Z_OK) throw std::bad_alloc();
}

InputFile::~InputFile() {
  if (compressed_) inflateEnd(&stream_);
}

uint64_t InputFile::most_bytes() const {
  if (!compressed_) return size_;
  const uint64_t most = std::numeric_limits<uint64_t>::max();
  return size_ > most / kMostInflation ? most : size_ * kMostInflation;
}

size_t InputFile::read(void* to, size_t bytes) {
  if (compressed_) return inflate_into(to, bytes);
  auto* out = static_cast<char*>(to);
  const size_t buffered = std::min<size_t>(bytes, stream_.avail_in);
  std::copy_n(stream_.next_in, buffered, out);
  stream_.next_in += buffered;
  stream_.avail_in -= static_cast<uInt>(buffered);
  file_.read(out + buffered, static_cast<std::streamsize>(bytes - buffered));
  return buffered + static_cast<size_t>(file_.gcount());
}

size_t InputFile::inflate_into(void* to, size_t bytes) {
  auto* out = static_cast<Bytef*>(to);
  size_t done = 0;
  while (done < bytes && !ended_) {
    if (stream_.avail_in == 0 && !refill()) fail_stream("one that ends too early");
    const auto step = std::min<size_t>(bytes - done, std::numeric_limits<uInt>::max());
    stream_.next_out = out + done;
    stream_.avail_out = static_cast<uInt>(step);
    const int status = inflate(&stream_, Z_NO_FLUSH);
    done += step - stream_.avail_out;
    if (status == Z_STREAM_END) {
      ended_ = !begin_next_member();
    } else if (status != Z_OK && status != Z_BUF_ERROR) {
      fail_stream(fmt::format("\"{}\"", stream_.msg == nullptr ? "no reason" : stream_.msg));
    }
  }
  return done;
}

bool InputFile::refill() {
  file_.read(reinterpret_cast<char*>(buffer_.data()), static_cast<std::streamsize>(buffer_.size()));
  stream_.next_in = buffer_.data();
  stream_.avail_in = static_cast<uInt>(file_.gcount());
  return stream_.avail_in > 0;
}

/// Begins the gzip stream that follows, if any: RFC 1952 allows several in a row. Anything else
/// after a stream is refused.
bool InputFile::begin_next_member() {
  if (stream_.avail_in == 0 && !refill()) return false;
  if (*stream_.next_in != 0x1f) fail_stream("other bytes after its end");
  if (inflateReset(&stream_) != Z_OK) throw std::bad_alloc();
  return true;
}

void InputFile::fail_stream(std::string_view found) const {
  fail<FileError>(operation_, fmt::format("{} must hold an intact gzip stream", path_.string()),
                  found, "Fetch or copy the file again.");
}

std::string read_content(const std::filesystem::path& path, uint64_t most_bytes,
                         std::string_view operation) {
  InputFile file(path, operation);
  std::string content(std::min(most_bytes, file.most_bytes()), '\0');
  content.resize(file.read(content.data(), content.size()));
  char beyond = 0;
  if (file.read(&beyond, 1) != 0) {
    fail<FileError>(
        operation, fmt::format("{} must hold at most {} bytes", path.string(), most_bytes), "more");
  }
  return content;
}

}  // namespace lowrank::app
