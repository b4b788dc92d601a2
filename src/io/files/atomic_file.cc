#include <lowrank/io/atomic_file.h>

#include <utility>

#include "io/files/replacement_file.h"

namespace lowrank {
namespace fs = std::filesystem;

struct AtomicFile::State {
  explicit State(const fs::path& asked)
      : path(io::require_replaceable(asked)), folders(path), temporary(path) {}

  fs::path path;
  // Declared before the file, so that it is destroyed after it, when the new folders are empty
  // again.
  io::CreatedFolders folders;
  io::ReplacementFile temporary;
};

AtomicFile::AtomicFile(const fs::path& path) : state_(std::make_unique<State>(path)) {}
AtomicFile::~AtomicFile() = default;
AtomicFile::AtomicFile(AtomicFile&&) noexcept = default;
AtomicFile& AtomicFile::operator=(AtomicFile&&) noexcept = default;

const fs::path& AtomicFile::path() const { return state_->path; }
void AtomicFile::write(std::string_view bytes) { state_->temporary.write(bytes); }
void AtomicFile::finish() { state_->temporary.finish(); }

void AtomicFile::commit() {
  state_->temporary.publish();
  state_->folders.keep();
}

void write_file_atomically(const fs::path& path, std::string_view bytes) {
  AtomicFile file(path);
  file.write(bytes);
  file.commit();
}

FileGroup::FileGroup() = default;
FileGroup::~FileGroup() { drop(); }
FileGroup::FileGroup(FileGroup&&) noexcept = default;
FileGroup& FileGroup::operator=(FileGroup&& other) noexcept {
  if (this != &other) {
    drop();
    files_ = std::move(other.files_);
  }
  return *this;
}

/// Drops the last file first: the folders that a file made are empty again only once later files
/// are gone.
void FileGroup::drop() {
  while (!files_.empty()) files_.pop_back();
}

void FileGroup::add(const fs::path& path, std::string_view bytes) {
  AtomicFile& file = open(path);
  file.write(bytes);
  file.finish();
}

AtomicFile& FileGroup::open(const fs::path& path) { return files_.emplace_back(path); }

void FileGroup::commit() {
  for (auto& file : files_) file.finish();
  for (auto& file : files_) file.state_->temporary.keep_old();
  try {
    for (auto& file : files_) file.state_->temporary.publish();
  } catch (...) {
    for (auto& file : files_) file.state_->temporary.roll_back();
    throw;
  }
  for (auto& file : files_) file.state_->folders.keep();
  files_.clear();
}

void remove_stale_files(const fs::path& folder) {
  std::error_code none;
  for (const auto& entry : fs::directory_iterator(folder, none)) {
    const auto name = entry.path().filename().native();
    const auto target_name = io::target_of_temporary(name);
    if (target_name.empty()) continue;
    // A version before this one moved old files to such names. If nothing has taken the place of
    // one, it is the only copy.
    if (name.ends_with(".old") && !fs::exists(folder / target_name, none)) {
      fs::rename(entry.path(), folder / target_name, none);
    } else {
      fs::remove(entry.path(), none);
    }
  }
}

}  // namespace lowrank
