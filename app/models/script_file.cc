#include "app/models/script_file.h"

#include <fmt/format.h>
#include <lowrank/error.h>
#include <lowrank/io/printable.h>
#include <lowrank/version.h>
#include <torch/csrc/jit/api/module.h>
#include <torch/csrc/jit/runtime/print_handler.h>
#include <torch/csrc/jit/serialization/import.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <fstream>
#include <string>
#include <string_view>

namespace lowrank::app {
namespace {

namespace fs = std::filesystem;

constexpr uint64_t kMostUnpacked = uint64_t{256} << 20;  // bytes
constexpr const char* kScriptHint =
    "torch.jit.script(model).save(...) writes one; torch.save does not.";

std::string requirement(const fs::path& file) {
  return fmt::format("\"{}\" must be a TorchScript file", file.string());
}

/// LibTorch's parser prints a stack trace for what is no zip archive, and its messages are written
/// for programmers.
void require_archive(const fs::path& file) {
  std::string begin(4, '\0');
  const bool is_file = fs::is_regular_file(file);
  std::ifstream stream;
  if (is_file) stream.open(file, std::ios::binary);
  stream.read(begin.data(), 4);
  if (begin == "PK\x03\x04") return;
  const char* found = !is_file            ? "a pipe or device"
                      : !stream.is_open() ? "a file that cannot be read"
                                          : "a file that is not a zip archive";
  fail<FileError>("load", requirement(file), found, kScriptHint);
}

/// Bytes of a zip archive. What lies outside of them reads as zeros.
class ArchiveBytes {
 public:
  explicit ArchiveBytes(const fs::path& file)
      : size_(fs::file_size(file)), stream_(file, std::ios::binary) {}

  uint64_t size() const { return size_; }

  std::string read(uint64_t offset, size_t count) {
    std::string bytes(count, '\0');
    stream_.clear();
    stream_.seekg(static_cast<std::streamoff>(std::min(offset, size_)));
    stream_.read(bytes.data(), static_cast<std::streamsize>(count));
    return bytes;
  }

 private:
  uint64_t size_;
  std::ifstream stream_;
};

/// Returns the little-endian number of `count` bytes at `offset`.
uint64_t number_at(std::string_view bytes, size_t offset, size_t count) {
  uint64_t value = 0;
  for (size_t i = count; i-- > 0;) {
    value = value << 8 | static_cast<unsigned char>(bytes[offset + i]);
  }
  return value;
}

/// Returns where the archive's directory begins; its end if there is none. The offsets are those of
/// the zip format (APPNOTE.TXT 4.3.14 to 4.3.16).
uint64_t directory_of(ArchiveBytes& archive) {
  constexpr uint64_t kEndRecord = 22, kLongestComment = 65535, kLocator = 20;
  const auto tail_at = archive.size() - std::min(archive.size(), kEndRecord + kLongestComment);
  const auto tail = archive.read(tail_at, archive.size() - tail_at);
  const auto end = tail.rfind("PK\x05\x06");
  if (end == std::string::npos || tail.size() - end < kEndRecord) return archive.size();
  if (end >= kLocator && tail.compare(end - kLocator, 4, "PK\x06\x07") == 0) {
    return number_at(archive.read(number_at(tail, end - kLocator + 8, 8), 56), 48, 8);
  }
  return number_at(tail, end + 16, 4);
}

/// Throws FileError if the compressed records, which are code and pickles (tensors are stored as
/// they are), unpack to more than any model needs. LibTorch would take the memory first.
void require_modest(const fs::path& file) {
  constexpr size_t kEntry = 46;
  ArchiveBytes archive(file);
  uint64_t unpacked = 0;
  for (uint64_t at = directory_of(archive); at < archive.size();) {
    const auto entry = archive.read(at, kEntry);
    if (!entry.starts_with("PK\x01\x02")) break;
    const bool is_compressed = number_at(entry, 10, 2) != 0;
    if (is_compressed) unpacked += number_at(entry, 24, 4);
    at += kEntry + number_at(entry, 28, 2) + number_at(entry, 30, 2) + number_at(entry, 32, 2);
  }
  if (unpacked <= kMostUnpacked) return;
  fail<FileError>("load",
                  fmt::format("the compressed parts of \"{}\" must unpack to at most {} MiB",
                              file.string(), kMostUnpacked >> 20),
                  fmt::format("{} MiB", unpacked >> 20));
}

/// Returns the first line of LibTorch's reason, without what is for LibTorch's developers and
/// without the full stop that our sentence adds.
std::string reason_of(const std::exception& error) {
  std::string reason = error.what();
  if (reason.starts_with("[enforce fail at")) reason.erase(0, reason.find("] . ") + 4);
  reason.erase(0, reason.find_first_not_of(" \n"));
  reason.resize(std::min({reason.find('\n'), reason.find("  (Could this"), reason.size()}));
  while (reason.ends_with('.') || reason.ends_with(':') || reason.ends_with(' ')) reason.pop_back();
  return reason.empty() ? "one that LibTorch cannot read" : reason;
}

/// Throws FileError that says what this LibTorch lacks, if the file was written for a newer one.
void require_not_newer(const fs::path& file, const std::string& reason) {
  const auto required = fmt::format("\"{}\" must be written for LibTorch {} or older",
                                    file.string(), libtorch_version());
  constexpr const char* kHint =
      "Save it with an older PyTorch, or build lowrank with a newer LibTorch.";
  constexpr std::string_view kUnknown = "Unknown builtin op: ";
  if (const auto at = reason.find(kUnknown); at != std::string::npos) {
    const auto name = reason.substr(at + kUnknown.size());
    fail<FileError>("load", required,
                    fmt::format("the operator {}, which this LibTorch does not have", name), kHint);
  }
  if (reason.find("maximum supported version") != std::string::npos) {
    fail<FileError>("load", required, "a newer file format", kHint);
  }
}

void require_dense(const torch::jit::Module& module, const fs::path& file) {
  const auto require = [&](const std::string& name, const at::Tensor& tensor) {
    if (tensor.layout() == at::kStrided) return;
    fail<FileError>("load", fmt::format("the tensors of \"{}\" must be dense", file.string()),
                    fmt::format("\"{}\", which is sparse", name));
  };
  for (const auto& item : module.named_parameters()) require(item.name, item.value);
  for (const auto& item : module.named_buffers()) require(item.name, item.value);
}

}  // namespace

std::string too_deep_message(const fs::path& file) {
  return error_message(
      "load", fmt::format("\"{}\" must not nest its code or data too deeply", file.string()),
      "so many levels that LibTorch, which reads them recursively, ran out of stack");
}

torch::jit::Module load_script(const fs::path& file) {
  require_archive(file);
  require_modest(file);
  // What a model prints is no result of the command, and may hold control characters.
  torch::jit::setPrintHandler(
      [](const std::string& text) { std::fputs((printable(text) + "\n").c_str(), stderr); });
  torch::jit::Module module;
  try {
    module = torch::jit::load(file.string(), at::kCPU);
  } catch (const std::exception& error) {  // c10::Error, or torch::jit::ErrorReport about its code
    const auto reason = reason_of(error);
    require_not_newer(file, reason);
    fail<FileError>("load", requirement(file), reason, kScriptHint);
  }
  require_dense(module, file);
  return module;
}

}  // namespace lowrank::app
