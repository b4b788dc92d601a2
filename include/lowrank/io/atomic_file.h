#pragma once

#include <lowrank/export.h>

#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

/// Files that are written completely or not at all. Each file is written under a temporary name in
/// its own folder, flushed to the disk and then renamed, so that a killed process never leaves a
/// partial file in place of a good one. All errors are FileErrors that name the file; a full disk
/// is reported as such.
///
/// Missing parent folders are created. A link in the place of the file is replaced, and its target
/// stays as it is, because somebody else may have put the link there. A new file gets the
/// permissions of the file that it replaces, otherwise 0666 minus the process's umask.
namespace lowrank {

/// One file, written piece by piece. If `commit` is not reached, nothing of it remains.
class LOWRANK_API AtomicFile {
 public:
  explicit AtomicFile(const std::filesystem::path& path);
  ~AtomicFile();
  AtomicFile(AtomicFile&&) noexcept;
  AtomicFile& operator=(AtomicFile&&) noexcept;

  const std::filesystem::path& path() const;
  void write(std::string_view bytes);
  /// Flushes the file to the disk and closes it. `commit` does this if it has not been done.
  void finish();
  /// Gives the file its final name. A second call does nothing.
  void commit();

 private:
  friend class FileGroup;
  struct State;
  std::unique_ptr<State> state_;
};

/// Writes or replaces a whole file.
LOWRANK_API void write_file_atomically(const std::filesystem::path& path, std::string_view bytes);

/// Several files that belong together. All bytes are on the disk, under temporary names, before the
/// first file gets its final name, so that a full disk or a missing permission changes nothing.
/// Then each file takes the place of its old one in turn. If that fails for one, the old files come
/// back. A process that is killed in the middle leaves some files new and some old, so a reader
/// that needs them together must check that they are (LoadReport::config_matches).
class LOWRANK_API FileGroup {
 public:
  FileGroup();
  ~FileGroup();
  FileGroup(FileGroup&&) noexcept;
  FileGroup& operator=(FileGroup&&) noexcept;

  /// Writes `bytes` to the disk immediately, so that they need not be kept in memory. If this or
  /// `open` throws, destroy the group: its destructor removes what has been written.
  void add(const std::filesystem::path& path, std::string_view bytes);
  /// Adds a file to be written piece by piece. The reference is valid until the next `add`, `open`
  /// or `commit`.
  AtomicFile& open(const std::filesystem::path& path);
  /// Gives all files their final names, in the order in which they were added, and empties the
  /// group.
  void commit();

 private:
  void drop();

  std::vector<AtomicFile> files_;
};

/// Removes the temporary files that killed processes have left in this folder. Only call this if no
/// other process is writing to it.
LOWRANK_API void remove_stale_files(const std::filesystem::path& folder);

/// Throws FileError if `force` is false and a command's output `out` (a file or a folder) would
/// replace something: a folder that is not empty, or a file that is not empty. Also throws,
/// whatever `force` says, if `out` cannot be written; this is tested with a file that is removed
/// again.
LOWRANK_API void require_writable_output(const std::filesystem::path& out, bool force);

}  // namespace lowrank
