#pragma once

#include <lowrank/export.h>

#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

/// Files that are whole or not there: each is written to a temporary name in its own folder,
/// flushed to the disk, then renamed, so a killed process never leaves a torn file where a good
/// one stood. All errors are FileErrors that name the file; a full disk is named as such.
///
/// Missing folders above a file are made. A link is followed: the file it points to is replaced.
/// Permissions are those of the file replaced, else 0666 less the process's umask.
namespace lowrank {

/// One such file, written piece by piece. Nothing of it stays where `commit` was not reached.
class LOWRANK_API AtomicFile {
 public:
  explicit AtomicFile(const std::filesystem::path& path);
  ~AtomicFile();
  AtomicFile(AtomicFile&&) noexcept;
  AtomicFile& operator=(AtomicFile&&) noexcept;

  const std::filesystem::path& path() const;
  void write(std::string_view bytes);
  /// Flushes to the disk and closes; `commit` does it where it was not called.
  void finish();
  /// Gives the file its name. A second call does nothing.
  void commit();

 private:
  friend class FileGroup;
  struct State;
  std::unique_ptr<State> state_;
};

/// Writes or replaces a whole file.
LOWRANK_API void write_file_atomically(const std::filesystem::path& path, std::string_view bytes);

/// Several files that belong together. All bytes are on the disk, under temporary names, before the
/// first file gets its name: a full disk or a missing permission changes nothing. A process that is
/// killed while they get their names leaves the old files, the new ones, or too few, never new ones
/// beside old ones: what the first is to stand beside is set aside before.
class LOWRANK_API FileGroup {
 public:
  FileGroup();
  ~FileGroup();
  FileGroup(FileGroup&&) noexcept;
  FileGroup& operator=(FileGroup&&) noexcept;

  /// Stages `bytes` at once, so that they need not be kept in memory. After a throw, from here
  /// or from `open`, drop the group: its destructor removes what was staged.
  void add(const std::filesystem::path& path, std::string_view bytes);
  /// Adds a file to be written piece by piece. Valid until the next `add`, `open` or `commit`.
  AtomicFile& open(const std::filesystem::path& path);
  /// Gives all files their names, in the order they were added, and empties the group.
  void commit();

 private:
  void drop();

  std::vector<AtomicFile> files_;
};

/// Throws a FileError where a command's output `out` (a file or a folder) would replace something
/// and `force` is false: a folder that holds anything, a file that is not empty. Also where it
/// could not be written, whatever `force` says: tried with a file that is removed again.
LOWRANK_API void require_writable_output(const std::filesystem::path& out, bool force);

}  // namespace lowrank
