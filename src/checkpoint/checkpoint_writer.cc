#include "checkpoint/checkpoint_writer.h"

#include <fcntl.h>
#include <lowrank/error.h>
#include <lowrank/io/atomic_file.h>
#include <lowrank/io/sha256.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <future>

#include "io/arrays/safetensors_plan.h"
#include "io/dense_bytes.h"
#include "io/files/system_file.h"

namespace lowrank {
namespace {

namespace fs = std::filesystem;

/// A file that is written at places of its own.
class PlacedFile {
 public:
  /// Takes room for the whole file, so that a full disk is noticed before anything is computed.
  PlacedFile(const fs::path& path, uint64_t size)
      : path_(path), file_(::open(path.c_str(), O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0666)) {
    const auto length = static_cast<off_t>(size);
    if (!file_.is_open() || ::ftruncate(file_.number(), length) != 0) io::fail_write(path, errno);
    const bool has_room = size == 0 || ::fallocate(file_.number(), 0, 0, length) == 0;
    if (!has_room && (errno == ENOSPC || errno == EDQUOT || errno == EFBIG)) {
      io::fail_write(path, errno);
    }
  }

  /// Writes, and lets the disk begin with it at once, so that finish() has less to wait for.
  void write(uint64_t at, std::string_view bytes) const {
    const auto begin = static_cast<off_t>(at), size = static_cast<off_t>(bytes.size());
    if (::lseek(file_.number(), begin, SEEK_SET) < 0) io::fail_write(path_, errno);
    io::write_all(file_, bytes, path_);
    ::sync_file_range(file_.number(), begin, size, SYNC_FILE_RANGE_WRITE);
  }

  /// The SHA-256 of the bytes from `begin` to `end`; empty if they cannot be read.
  std::string sha256(uint64_t begin, uint64_t end) const {
    constexpr uint64_t kPart = uint64_t{1} << 20;
    std::string part(std::min(kPart, end - begin), '\0');
    Sha256 sum;
    for (auto at = begin; at < end;) {
      const auto wanted = std::min<uint64_t>(part.size(), end - at);
      const auto got = ::pread(file_.number(), part.data(), wanted, static_cast<off_t>(at));
      if (got <= 0) return {};
      sum.update(part.data(), static_cast<size_t>(got));
      at += static_cast<uint64_t>(got);
    }
    return sum.hex();
  }

  void finish() {
    if (::fsync(file_.number()) != 0 && errno != EINVAL) io::fail_write(path_, errno);
    if (const int error_number = file_.close(); error_number != 0) {
      io::fail_write(path_, error_number);
    }
  }

 private:
  fs::path path_;
  io::Descriptor file_;
};

}  // namespace

CheckpointWriter::CheckpointWriter(const fs::path& out, const Options& options)
    : options_(options),
      stage_(out, options.resume, options.operation),
      journal_(stage_.journal(), options.identity, options.resume, options.operation) {}

void CheckpointWriter::write(const std::string& name, const std::vector<SafetensorsEntry>& entries,
                             const std::map<std::string, std::string>& metadata,
                             const Source& source) {
  const auto plan = io::plan_safetensors(entries, metadata);
  PlacedFile file(stage_.file(name), plan.size());
  file.write(0, plan.header);
  std::future<void>
      storing;  // of one tensor, while the next is made; waits where it goes out of scope
  for (const auto& place : plan.tensors) {
    const auto part = name + "/" + place.entry->name;
    const auto* finished = journal_.find(part);
    if (finished != nullptr && file.sha256(place.begin, place.end) == finished->sha256) {
      source.report(*place.entry, finished->report);
      ++resumed_;
      continue;
    }
    const auto content = source.make(*place.entry);
    const auto dense = io::as_announced(*place.entry, content.tensor);
    if (storing.valid()) storing.get();
    // Without a thread to spare it is done in get().
    storing = std::async(std::launch::async | std::launch::deferred,
                         [this, &file, part, dense, at = place.begin, report = content.report] {
                           const auto bytes = io::bytes_of(dense);
                           file.write(at, bytes);
                           journal_.add(part, {sha256_hex(bytes), report});
                         });
    source.report(*place.entry, content.report);
  }
  if (storing.valid()) storing.get();
  file.finish();
  names_.insert(name);
}

void CheckpointWriter::add(const std::string& name, std::string_view bytes) {
  names_.insert(name);
  write_file_atomically(stage_.file(name), bytes);
}

void CheckpointWriter::commit(const std::set<std::string>& dropped) {
  if (options_.is_folder) {
    stage_.publish_folder(names_, dropped);
  } else {
    stage_.publish_file(*names_.begin());
  }
}

}  // namespace lowrank
