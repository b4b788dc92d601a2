#include "io/files/replacement_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <lowrank/error.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <random>
#include <system_error>
#include <utility>

namespace lowrank::io {
namespace fs = std::filesystem;
namespace {

std::string random_suffix() {
  std::random_device device;
  return fmt::format("{:08x}{:08x}", device(), device());
}

}  // namespace

void flush_folder(const fs::path& folder) {
  const Descriptor opened(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (opened.is_open() && ::fsync(opened.number()) != 0 && errno == EIO) {
    fail_write(folder, EIO);
  }
}

fs::path without_trailing_slash(const fs::path& path) {
  return path.has_filename() || !path.has_relative_path() ? path : path.parent_path();
}

fs::path folder_of(const fs::path& path) {
  const fs::path folder = without_trailing_slash(path).parent_path();
  return folder.empty() ? fs::path(".") : folder;
}

const fs::path& require_replaceable(const fs::path& path) {
  std::error_code error;
  const fs::file_status status = fs::status(path, error);
  const std::string required = quoted(path) + " must name a regular file to write";
  if (path.empty()) fail<FileError>("output", required, "an empty name");
  if (fs::is_directory(status) || !path.has_filename()) {
    fail<FileError>("output", required, "a folder");
  }
  if (fs::exists(status) && !fs::is_regular_file(status)) {
    fail<FileError>("output", required, "a device, pipe or socket");
  }
  return path;
}

std::string target_of_temporary(std::string_view name) {
  constexpr std::string_view kEnding = ".tmp", kOld = ".old";
  constexpr size_t kSuffix = 16;  // hexadecimal digits
  if (name.ends_with(kOld)) name.remove_suffix(kOld.size());
  if (!name.starts_with('.') || !name.ends_with(kEnding)) return {};
  name.remove_prefix(1);
  name.remove_suffix(kEnding.size());
  if (name.size() < kSuffix + 2 || name[name.size() - kSuffix - 1] != '.') return {};
  const auto suffix = name.substr(name.size() - kSuffix);
  if (suffix.find_first_not_of("0123456789abcdef") != std::string_view::npos) return {};
  return std::string(name.substr(0, name.size() - kSuffix - 1));
}

std::vector<fs::path> missing_folders(const fs::path& path) {
  std::vector<fs::path> missing;
  std::error_code error;
  for (fs::path folder = folder_of(path); !fs::exists(folder, error); folder = folder_of(folder)) {
    if (error) fail_write(path, error.value());
    if (folder_of(folder) == folder) break;
    missing.push_back(folder);
  }
  return missing;
}

CreatedFolders::CreatedFolders(const fs::path& file) {
  std::vector<fs::path> missing = missing_folders(file);
  for (; !missing.empty(); missing.pop_back()) {
    if (::mkdir(missing.back().c_str(), 0777) == 0) {
      made_.push_back(missing.back());
    } else if (errno != EEXIST) {
      const int error_number = errno;
      for (; !made_.empty(); made_.pop_back()) ::rmdir(made_.back().c_str());
      fail_write(file, error_number);
    }
  }
}

CreatedFolders::~CreatedFolders() {
  for (; !made_.empty(); made_.pop_back()) ::rmdir(made_.back().c_str());
}

void CreatedFolders::keep() {
  const std::vector<fs::path> made = std::exchange(made_, {});
  for (const auto& folder : made) flush_folder(folder_of(folder));
}

ReplacementFile::ReplacementFile(const fs::path& target) : target_(target) {
  // At most 200 bytes of the name, so that the whole stays within the usual limit of 255.
  const std::string name = target.filename().native().substr(0, 200);
  constexpr int kMostTries = 100;
  int tries = 0;
  do {
    path_ = folder_of(target) / fmt::format(".{}.{}.tmp", name, random_suffix());
    file_ = Descriptor(::open(path_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666));
  } while (!file_.is_open() && (errno == EEXIST || errno == EINTR) && ++tries < kMostTries);
  if (!file_.is_open()) {
    const int error_number = errno;
    path_.clear();
    fail_write(target_, error_number);
  }
  struct stat replaced = {};
  if (::lstat(target_.c_str(), &replaced) == 0 && S_ISREG(replaced.st_mode)) {
    // Best effort: file systems without permissions refuse it.
    [[maybe_unused]] const int ignored = ::fchmod(file_.number(), replaced.st_mode & 0777);
  }
}

ReplacementFile::~ReplacementFile() {
  if (!path_.empty()) ::unlink(path_.c_str());
  drop_old();
}

void ReplacementFile::write(std::string_view bytes) { write_all(file_, bytes, target_); }

void ReplacementFile::finish() {
  if (!file_.is_open()) return;
  int result = 0;
  do {
    result = ::fsync(file_.number());
  } while (result != 0 && errno == EINTR);
  // EINVAL: the file system has nothing to flush to.
  if (result != 0 && errno != EINVAL) fail_write(target_, errno);
  if (const int error_number = file_.close(); error_number != 0) fail_write(target_, error_number);
}

void ReplacementFile::publish() {
  if (path_.empty()) return;
  finish();
  if (std::rename(path_.c_str(), target_.c_str()) != 0) fail_write(target_, errno);
  path_.clear();
  flush_folder(folder_of(target_));
}

void ReplacementFile::keep_old() {
  std::error_code none;
  is_replacing_ = fs::exists(fs::symlink_status(target_, none));
  const fs::path old = path_.native() + ".old";
  if (is_replacing_ && ::link(target_.c_str(), old.c_str()) == 0) old_ = old;
}

void ReplacementFile::roll_back() {
  const bool is_published = path_.empty();
  if (!is_published) return;
  if (!old_.empty()) {
    std::rename(old_.c_str(), target_.c_str());
    old_.clear();
  } else if (!is_replacing_) {
    ::unlink(target_.c_str());
  }
}

void ReplacementFile::drop_old() {
  if (!old_.empty()) ::unlink(old_.c_str());
  old_.clear();
}

}  // namespace lowrank::io
