#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "io/files/system_file.h"

/// The steps behind AtomicFile.
namespace lowrank::io {

/// Returns `path`. Throws FileError for an empty name, a folder, and anything else that a rename
/// must not replace (a device, a pipe), also behind a link.
const std::filesystem::path& require_replaceable(const std::filesystem::path& path);

/// `path` without a trailing slash; and the folder that it is in, "." if it names none.
std::filesystem::path without_trailing_slash(const std::filesystem::path& path);
std::filesystem::path folder_of(const std::filesystem::path& path);

/// Flushes a folder's entries to the disk. Some file systems cannot do that (EINVAL), which is
/// ignored: the rename itself is done by then.
void flush_folder(const std::filesystem::path& folder);

/// Returns the name of the target if ReplacementFile gave a file this name
/// (".target.0123456789abcdef.tmp", with ".old" after it for an old file); otherwise nothing.
std::string target_of_temporary(std::string_view name);

/// The folders above `path` that do not exist, innermost first.
std::vector<std::filesystem::path> missing_folders(const std::filesystem::path& path);

/// Makes the missing folders above a file. The destructor removes those that are empty, unless
/// keep() was called.
class CreatedFolders {
 public:
  explicit CreatedFolders(const std::filesystem::path& file);
  ~CreatedFolders();
  CreatedFolders(const CreatedFolders&) = delete;
  CreatedFolders& operator=(const CreatedFolders&) = delete;

  /// Keeps the folders, and flushes their names to the disk.
  void keep();

 private:
  std::vector<std::filesystem::path> made_;  // outermost first
};

/// A file with a new, hidden name beside `target`, removed unless it was published.
class ReplacementFile {
 public:
  explicit ReplacementFile(const std::filesystem::path& target);
  ~ReplacementFile();
  ReplacementFile(const ReplacementFile&) = delete;
  ReplacementFile& operator=(const ReplacementFile&) = delete;

  void write(std::string_view bytes);
  /// Flushes to the disk and closes.
  void finish();
  /// Renames it to the target and flushes the folder.
  void publish();
  /// Gives the target a second, hidden name, for roll_back(). (Some file systems cannot do that;
  /// then nothing can be rolled back.)
  void keep_old();
  /// After publish(): brings the old file back, or removes the new one if there was none.
  void roll_back();
  void drop_old();

 private:
  std::filesystem::path target_;
  std::filesystem::path path_;  // empty once published
  std::filesystem::path old_;   // empty if none is kept
  bool is_replacing_ = false;   // whether there was a target
  Descriptor file_;
};

}  // namespace lowrank::io
