#include "io/files/mapped_file.h"

#include <lowrank/error.h>
#include <lowrank/io/mapped_files.h>
#include <lowrank/io/printable.h>
#include <sys/mman.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <mutex>
#include <string>

#include "io/files/system_file.h"

namespace lowrank {
namespace {

/// Where files are mapped, in a form that a signal handler may read. A slot is in use while its
/// begin is not null.
struct Mapping {
  std::atomic<const char*> begin{nullptr};
  std::atomic<size_t> size{0};
  std::array<char, 1024> name{};
};
constexpr size_t kMostMappings = 64;  // further files have no name in the message
std::array<Mapping, kMostMappings> mappings;
std::mutex mappings_mutex;

void remember(const char* begin, size_t size, const std::string& name) {
  const std::lock_guard lock(mappings_mutex);
  for (auto& mapping : mappings) {
    if (mapping.begin.load() != nullptr) continue;
    const auto length = name.copy(mapping.name.data(), mapping.name.size() - 1);
    mapping.name[length] = '\0';
    mapping.size = size;
    mapping.begin = begin;
    return;
  }
}

void forget(const char* begin) {
  const std::lock_guard lock(mappings_mutex);
  for (auto& mapping : mappings) {
    if (mapping.begin.load() == begin) mapping.begin = nullptr;
  }
}

}  // namespace

const char* mapped_file_at(const void* address) noexcept {
  const auto* at = static_cast<const char*>(address);
  for (const auto& mapping : mappings) {
    const char* begin = mapping.begin.load();
    if (begin != nullptr && at >= begin && at < begin + mapping.size.load()) {
      return mapping.name.data();
    }
  }
  return nullptr;
}

}  // namespace lowrank

namespace lowrank::io {

MappedFile::MappedFile(const std::filesystem::path& path, std::string_view operation) {
  const ReadableFile file = open_for_reading(path, operation);
  if (file.size == 0) return;  // mmap refuses a length of zero
  // Without MAP_NORESERVE, the kernel may refuse a file that is larger than the memory, although
  // pages that are only read cost no memory.
  void* data = ::mmap(nullptr, file.size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_NORESERVE,
                      file.descriptor.number(), 0);
  if (data == MAP_FAILED) {
    const int error_number = errno;
    fail<FileError>(operation, quoted(path) + " must be mappable into memory",
                    quoted(system_error_text(error_number)));
  }
  data_ = static_cast<char*>(data);
  size_ = file.size;
  remember(data_, size_, printable(path.string()));
}

MappedFile::~MappedFile() {
  if (data_ == nullptr) return;
  forget(data_);
  ::munmap(data_, size_);
}

}  // namespace lowrank::io
