#include "checkpoint/staged_output.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <lowrank/error.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <system_error>
#include <utility>
#include <vector>

#include "io/files/replacement_file.h"
#include "io/files/system_file.h"

namespace lowrank {
namespace {

namespace fs = std::filesystem;

constexpr const char* kJournal = "lowrank_journal.jsonl";
constexpr size_t kLongestName = 200;  // of the part of a name that is the output's

/// Exchanges two folders, or where the file system cannot do that, moves the old one aside.
void exchange(const fs::path& from, const fs::path& to) {
  if (::renameat2(AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(), RENAME_EXCHANGE) == 0) return;
  if (errno != EINVAL && errno != ENOSYS) io::fail_write(to, errno);
  const fs::path aside = from.native() + ".old";
  if (std::rename(to.c_str(), aside.c_str()) != 0) io::fail_write(to, errno);
  if (std::rename(from.c_str(), to.c_str()) != 0) {
    const int error_number = errno;
    std::rename(aside.c_str(), to.c_str());
    io::fail_write(to, error_number);
  }
  std::rename(aside.c_str(), from.c_str());
}

/// Whether a folder cannot or must not be exchanged for another one.
bool must_stay(const fs::path& folder) {
  std::error_code none;
  struct stat own = {}, parent = {};
  if (::stat(folder.c_str(), &own) != 0 || !S_ISDIR(own.st_mode)) return false;
  const auto above = folder / "..";
  if (::stat(above.c_str(), &parent) != 0 || own.st_dev != parent.st_dev) return true;
  if (own.st_ino == parent.st_ino || ::access(above.c_str(), W_OK | X_OK) != 0) return true;
  if (fs::equivalent(folder, ".", none)) return true;
  for (const auto& entry : fs::directory_iterator(folder, none)) {
    const bool is_readable = ::access(entry.path().c_str(), R_OK) == 0 || entry.is_symlink(none);
    if (entry.is_directory(none) || !is_readable) return true;
  }
  return false;
}

/// The files of a folder, those of JSON last: a reader that finds them finds the others.
std::vector<std::string> files_in_order(const fs::path& folder) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder)) {
    if (entry.path().filename() != kJournal) names.push_back(entry.path().filename().string());
  }
  std::sort(names.begin(), names.end(), [](const auto& one, const auto& other) {
    return std::pair(one.ends_with(".json"), one) < std::pair(other.ends_with(".json"), other);
  });
  return names;
}

}  // namespace

StagedOutput::StagedOutput(const fs::path& out, bool resume, const char* operation)
    : out_(io::without_trailing_slash(out)), is_inside_(must_stay(out_)) {
  std::error_code error;
  // A link to a folder stays; what it points to gets the output.
  if (fs::is_directory(out_, error)) out_ = fs::canonical(out_, error);
  folder_ = is_inside_ ? out_ / ".lowrank.unfinished"
                       : io::folder_of(out_) /
                             fmt::format(".{}.unfinished",
                                         out_.filename().string().substr(0, kLongestName));
  const auto missing = io::missing_folders(out_);
  if (!missing.empty()) made_ = missing.back();
  finish_interrupted();
  const bool exists = fs::exists(fs::symlink_status(folder_, error));
  const bool is_ours =
      exists && fs::is_directory(fs::symlink_status(folder_, error)) &&
      (fs::is_regular_file(fs::symlink_status(journal(), error)) || fs::is_empty(folder_, error));
  if (exists && !is_ours) {
    const auto name = io::quoted(folder_);
    folder_.clear();
    fail<FileError>(operation, fmt::format("{} must be free for the unfinished result", name),
                    "something else", "Move it away.");
  }
  is_resumed_ = resume && exists;
  fs::create_directories(folder_, error);
  if (error) io::fail_write(folder_, error.value());
  lock_ = io::Descriptor(::open(folder_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!lock_.is_open()) io::fail_write(folder_, errno);
  if (::flock(lock_.number(), LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) {
    folder_.clear();
    fail<FileError>(operation, fmt::format("no other process may be writing {}", io::quoted(out_)),
                    "one");
  }
  if (resume) return;
  // The journal, which shows that the folder is ours, is emptied by the next one.
  for (const auto& entry : fs::directory_iterator(folder_, error)) {
    if (entry.path() != journal()) fs::remove_all(entry.path(), error);
  }
}

/// The journal is taken out of the new folder last. Where it is still there, a process was killed
/// after the exchange, and what lies in the hidden folder is the old output.
void StagedOutput::finish_interrupted() const {
  std::error_code none;
  if (is_inside_ || !fs::is_regular_file(fs::symlink_status(out_ / kJournal, none))) return;
  if (!fs::exists(journal(), none)) fs::remove_all(folder_, none);
  fs::remove(out_ / kJournal, none);
}

StagedOutput::~StagedOutput() {
  if (is_resumed_) return;
  remove_folder();
  if (made_.empty()) return;
  // Only folders that are empty, from the inside out.
  for (auto folder = io::folder_of(out_); ::rmdir(folder.c_str()) == 0 && folder != made_;) {
    folder = io::folder_of(folder);
  }
}

fs::path StagedOutput::journal() const { return folder_ / kJournal; }

void StagedOutput::remove_folder() {
  std::error_code none;
  if (!folder_.empty()) fs::remove_all(folder_, none);
}

void StagedOutput::keep_others(const std::set<std::string>& dropped) const {
  std::error_code none;
  for (const auto& entry : fs::directory_iterator(out_, none)) {
    const auto name = entry.path().filename().string();
    if (dropped.contains(name) || fs::exists(fs::symlink_status(file(name), none))) continue;
    std::error_code failed;
    fs::create_hard_link(entry.path(), file(name), failed);
    if (failed && entry.is_symlink(none)) {
      fs::copy_symlink(entry.path(), file(name), failed);
    } else if (failed) {
      fs::copy_file(entry.path(), file(name), failed);
    }
    if (failed) io::fail_write(file(name), failed.value());
  }
}

void StagedOutput::require_places(const std::set<std::string>& names) const {
  if (names.empty()) io::require_replaceable(out_);
  for (const auto& name : names) io::require_replaceable(out_ / name);
}

void StagedOutput::drop_all_but(const std::set<std::string>& names) const {
  std::error_code none;
  for (const auto& entry : fs::directory_iterator(folder_, none)) {
    const auto name = entry.path().filename().string();
    if (name != kJournal && !names.contains(name)) fs::remove_all(entry.path(), none);
  }
}

/// Gives the folder and its files the permissions of those that they replace.
void StagedOutput::keep_modes() const {
  const auto keep = [](const fs::path& from, const fs::path& to) {
    struct stat old = {};
    if (::lstat(from.c_str(), &old) != 0 || S_ISLNK(old.st_mode)) return;
    // Best effort: file systems without permissions refuse it.
    [[maybe_unused]] const int ignored = ::chmod(to.c_str(), old.st_mode & 0777);
  };
  std::error_code none;
  for (const auto& entry : fs::directory_iterator(folder_, none)) {
    keep(out_ / entry.path().filename(), entry.path());
  }
  if (!is_inside_) keep(out_, folder_);
}

void StagedOutput::publish_files(const std::set<std::string>& dropped) {
  const auto names = files_in_order(folder_);
  for (const auto& name : names) io::require_replaceable(out_ / name);
  for (const auto& name : names) {
    if (std::rename(file(name).c_str(), (out_ / name).c_str()) != 0) {
      io::fail_write(out_ / name, errno);
    }
  }
  std::error_code none;
  for (const auto& name : dropped) {
    if (std::find(names.begin(), names.end(), name) == names.end()) fs::remove(out_ / name, none);
  }
  io::flush_folder(out_);
  remove_folder();
}

void StagedOutput::publish_folder(const std::set<std::string>& names,
                                  const std::set<std::string>& dropped) {
  made_.clear();
  drop_all_but(names);
  keep_modes();
  if (is_inside_) return publish_files(dropped);
  std::error_code none;
  const bool replaces = fs::exists(fs::symlink_status(out_, none));
  if (replaces) keep_others(dropped);
  io::flush_folder(folder_);
  if (!replaces || ::rmdir(out_.c_str()) == 0) {
    if (std::rename(folder_.c_str(), out_.c_str()) != 0) io::fail_write(out_, errno);
  } else {
    exchange(folder_, out_);
    remove_folder();
  }
  folder_.clear();
  fs::remove(out_ / kJournal, none);
  io::flush_folder(io::folder_of(out_));
}

void StagedOutput::publish_file(const std::string& name) {
  io::require_replaceable(out_);
  struct stat old = {};
  if (::lstat(out_.c_str(), &old) == 0 && S_ISREG(old.st_mode)) {
    [[maybe_unused]] const int ignored = ::chmod(file(name).c_str(), old.st_mode & 0777);
  }
  if (std::rename(file(name).c_str(), out_.c_str()) != 0) io::fail_write(out_, errno);
  is_resumed_ = false;  // what is left in the folder can go
  made_.clear();
  io::flush_folder(io::folder_of(out_));
}

}  // namespace lowrank
