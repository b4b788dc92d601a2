#include "io/files/mapped_file.h"

#include <lowrank/error.h>
#include <sys/mman.h>

#include <cerrno>

#include "io/files/system_file.h"

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
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) ::munmap(data_, size_);
}

}  // namespace lowrank::io
