#include <fcntl.h>
#include <lowrank/error.h>
#include <lowrank/io/atomic_file.h>
#include <sys/inotify.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <vector>

#include "io/files/system_file.h"
#include "support/expect_error.h"
#include "support/temporary_folder.h"

namespace lowrank {
namespace {

namespace fs = std::filesystem;

std::vector<std::string> names_in(const fs::path& folder) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder)) names.push_back(entry.path().filename());
  std::sort(names.begin(), names.end());
  return names;
}

mode_t permissions(const fs::path& path) {
  struct stat status = {};
  EXPECT_EQ(::stat(path.c_str(), &status), 0);
  return status.st_mode & 0777;
}

/// Limits the size of files for a scope, so that writing fails midway.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(rlim_t bytes) : handler_(std::signal(SIGXFSZ, SIG_IGN)) {
    ::getrlimit(RLIMIT_FSIZE, &before_);
    const rlimit limit{bytes, before_.rlim_max};
    ::setrlimit(RLIMIT_FSIZE, &limit);
  }
  ~FileSizeLimit() {
    ::setrlimit(RLIMIT_FSIZE, &before_);
    std::signal(SIGXFSZ, handler_);
  }
  FileSizeLimit(const FileSizeLimit&) = delete;
  FileSizeLimit& operator=(const FileSizeLimit&) = delete;

 private:
  void (*handler_)(int);
  rlimit before_ = {};
};

TEST(AtomicFile, WritesReplacesAndLeavesNothingElse) {
  const TemporaryFolder folder;
  write_file_atomically(folder / "a file", "one");
  EXPECT_EQ(read_bytes(folder / "a file"), "one");
  const std::string zeros(100'000, '\0');
  write_file_atomically(folder / "a file", zeros);
  EXPECT_EQ(read_bytes(folder / "a file"), zeros);
  write_file_atomically(folder / "a file", "");
  EXPECT_EQ(read_bytes(folder / "a file"), "");
  EXPECT_EQ(names_in(folder.path()), std::vector<std::string>{"a file"});
}

TEST(AtomicFile, PermissionsAreTheUmasksOrThoseOfTheFileReplaced) {
  const TemporaryFolder folder;
  const mode_t umask_before = ::umask(027);
  write_file_atomically(folder / "new", "x");
  ::umask(umask_before);
  EXPECT_EQ(permissions(folder / "new"), 0640);
  ASSERT_EQ(::chmod((folder / "new").c_str(), 0600), 0);
  write_file_atomically(folder / "new", "y");
  EXPECT_EQ(permissions(folder / "new"), 0600);
}

TEST(AtomicFile, AnotherReaderSeesTheOldFileUntilCommit) {
  const TemporaryFolder folder;
  folder.write("f", "old");
  AtomicFile file(folder / "f");
  file.write("ne");
  file.write("w");
  EXPECT_EQ(read_bytes(folder / "f"), "old");
  file.finish();
  EXPECT_EQ(read_bytes(folder / "f"), "old");
  file.commit();
  file.commit();
  EXPECT_EQ(read_bytes(folder / "f"), "new");
}

TEST(AtomicFile, WithoutCommitNothingStays) {
  const TemporaryFolder folder;
  AtomicFile(folder / "x" / "y" / "f").write("new");
  EXPECT_TRUE(names_in(folder.path()).empty());
}

TEST(AtomicFile, MakesMissingFolders) {
  const TemporaryFolder folder;
  write_file_atomically(folder / "x" / "y" / "f", "new");
  EXPECT_EQ(read_bytes(folder / "x" / "y" / "f"), "new");
}

TEST(AtomicFile, ReplacesLinksAndNotWhatTheyPointTo) {
  const TemporaryFolder folder;
  folder.write("real", "old");
  fs::create_symlink("real", folder / "link");
  fs::create_symlink("later", folder / "dangling");
  write_file_atomically(folder / "link", "new");
  write_file_atomically(folder / "dangling", "new");
  fs::create_symlink("loop", folder / "loop");
  write_file_atomically(folder / "loop", "new");
  for (const auto* name : {"link", "dangling", "loop"}) {
    EXPECT_TRUE(fs::is_regular_file(fs::symlink_status(folder / name))) << name;
    EXPECT_EQ(read_bytes(folder / name), "new");
  }
  EXPECT_EQ(read_bytes(folder / "real"), "old");
  EXPECT_FALSE(fs::exists(folder / "later"));
  fs::create_symlink("/dev/null", folder / "device");
  LOWRANK_EXPECT_ERROR(write_file_atomically(folder / "device", "x"), FileError,
                       "must name a regular file to write. Got a device, pipe or socket.");
}

TEST(AtomicFile, ReplacesTwoLinksToOneFile) {
  const TemporaryFolder folder;
  for (const auto* name : {"one", "two"}) fs::create_symlink("same", folder / name);
  FileGroup files;
  files.add(folder / "one", "1");
  files.add(folder / "two", "2");
  files.commit();
  EXPECT_EQ(read_bytes(folder / "one"), "1");
  EXPECT_EQ(read_bytes(folder / "two"), "2");
  EXPECT_FALSE(fs::exists(folder / "same"));
}

TEST(AtomicFile, RefusesWhatIsNoFile) {
  const TemporaryFolder folder;
  LOWRANK_EXPECT_ERROR(write_file_atomically(folder.path(), "x"), FileError,
                       "must name a regular file to write. Got a folder.");
  LOWRANK_EXPECT_ERROR(write_file_atomically(folder / "new/", "x"), FileError,
                       "must name a regular file to write. Got a folder.");
  LOWRANK_EXPECT_ERROR(write_file_atomically("/dev/null", "x"), FileError,
                       "[output] \"/dev/null\" must name a regular file to write. Got a device");
  LOWRANK_EXPECT_ERROR(write_file_atomically("", "x"), FileError, "Got an empty name.");
  folder.write("file", "old");
  LOWRANK_EXPECT_ERROR(write_file_atomically(folder / "file" / "f", "x"), FileError,
                       "must be writable. Got \"Not a directory\".");
  LOWRANK_EXPECT_ERROR(write_file_atomically("/proc/lowrank/f", "x"), FileError,
                       "[output] \"/proc/lowrank/f\" must be writable. Got ");
  LOWRANK_EXPECT_ERROR(write_file_atomically(folder / std::string(300, 'a'), "x"), FileError,
                       "must be writable. Got \"File name too long\".");
}

TEST(AtomicFile, AFailedWriteLeavesTheOldFileAndNoTemporary) {
  const TemporaryFolder folder;
  folder.write("f", "old");
  {
    const FileSizeLimit limit(4096);
    LOWRANK_EXPECT_ERROR(write_file_atomically(folder / "f", std::string(10'000, 'x')), FileError,
                         "f\" must fit into the limit on file sizes. Got \"File too large\".");
  }
  EXPECT_EQ(read_bytes(folder / "f"), "old");
  EXPECT_EQ(names_in(folder.path()), std::vector<std::string>{"f"});
}

TEST(AtomicFile, AFullDiskIsNamed) {
  const io::Descriptor full(::open("/dev/full", O_WRONLY | O_CLOEXEC));
  ASSERT_TRUE(full.is_open());
  LOWRANK_EXPECT_ERROR(
      io::write_all(full, "x", "a/model.safetensors"), FileError,
      "[output] the disk must have room for \"a/model.safetensors\". Got \"No space left on "
      "device\". The disk is full: free some space or write elsewhere.");
}

TEST(FileGroup, GivesAllFilesTheirNamesAtOnce) {
  const TemporaryFolder folder;
  folder.write("a", "old");
  FileGroup group;
  group.add(folder / "a", "new a");
  group.open(folder / "sub" / "b").write("new b");
  EXPECT_EQ(read_bytes(folder / "a"), "old");
  group.commit();
  EXPECT_EQ(read_bytes(folder / "a"), "new a");
  EXPECT_EQ(read_bytes(folder / "sub" / "b"), "new b");
  EXPECT_EQ(names_in(folder.path()), (std::vector<std::string>{"a", "sub"}));
  EXPECT_EQ(names_in(folder / "sub"), std::vector<std::string>{"b"});
}

TEST(FileGroup, ReplacesEachFileInOneStep) {
  const TemporaryFolder folder;
  for (const char* name : {"a", "b"}) folder.write(name, "old");
  FileGroup group;
  for (const char* name : {"a", "b"}) group.add(folder / name, "new");
  const io::Descriptor watch(::inotify_init1(IN_NONBLOCK));
  ASSERT_GE(::inotify_add_watch(watch.number(), folder.path().c_str(), IN_MOVED_FROM | IN_MOVED_TO),
            0);
  group.commit();
  alignas(inotify_event) char bytes[4096];
  const auto size = ::read(watch.number(), bytes, sizeof bytes);
  std::vector<std::string> seen;
  for (ssize_t at = 0; at < size;) {
    const auto* event = reinterpret_cast<const inotify_event*>(bytes + at);
    const std::string name = event->name;
    if (!name.starts_with(".")) seen.push_back((event->mask & IN_MOVED_TO ? "+" : "-") + name);
    at += static_cast<ssize_t>(sizeof *event + event->len);
  }
  EXPECT_EQ(seen, (std::vector<std::string>{"+a", "+b"})) << "at no moment is one missing";
  EXPECT_EQ(names_in(folder.path()), (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(read_bytes(folder / "b"), "new");
}

TEST(FileGroup, AFirstFileThatCannotBeNamedLeavesTheOthers) {
  const TemporaryFolder folder;
  folder.write("b", "old");
  {
    FileGroup group;
    for (const char* name : {"a", "b"}) group.add(folder / name, "new");
    fs::create_directories(folder / "a" / "in the way");
    LOWRANK_EXPECT_ERROR(group.commit(), FileError, "must be writable");
  }
  EXPECT_EQ(read_bytes(folder / "b"), "old");
  EXPECT_EQ(names_in(folder.path()), (std::vector<std::string>{"a", "b"}));
}

TEST(FileGroup, ALaterFileThatCannotBeNamedBringsTheOldOnesBack) {
  const TemporaryFolder folder;
  folder.write("a", "old");
  {
    FileGroup group;
    for (const char* name : {"a", "new", "b"}) group.add(folder / name, "new");
    fs::create_directories(folder / "b" / "in the way");
    LOWRANK_EXPECT_ERROR(group.commit(), FileError, "must be writable");
  }
  EXPECT_EQ(read_bytes(folder / "a"), "old");
  EXPECT_EQ(names_in(folder.path()), (std::vector<std::string>{"a", "b"}));
}

TEST(FileGroup, AFailedStagingChangesNothing) {
  const TemporaryFolder folder;
  folder.write("a", "old");
  {
    FileGroup group;
    group.add(folder / "a", "new");
    group.add(folder / "new" / "b", "new");
    group.add(folder / "new" / "c", "new");
    LOWRANK_EXPECT_ERROR(group.add(folder / "a" / "d", "new"), FileError, "must be writable");
    const FileSizeLimit limit(4096);
    LOWRANK_EXPECT_ERROR(group.add(folder / "e", std::string(10'000, 'x')), FileError,
                         "must fit into the limit on file sizes");
  }
  EXPECT_EQ(read_bytes(folder / "a"), "old");
  EXPECT_EQ(names_in(folder.path()), std::vector<std::string>{"a"});
}

TEST(StaleFiles, AreThoseOfTemporaryFilesAlone) {
  const TemporaryFolder folder;
  folder.write("kept", "new");
  for (const char* name : {".kept.0123456789abcdef.tmp", ".kept.0123456789abcdef.tmp.old",
                           ".x.00000000ffffffff.tmp"}) {
    folder.write(name, "stale");
  }
  for (const char* name :
       {".hidden", ".a.tmp", ".a.0123456789abcdeg.tmp", "b.0123456789abcdef.tmp"}) {
    folder.write(name, "the user's");
  }
  folder.write(".lost.0123456789abcdef.tmp.old", "the only copy");
  remove_stale_files(folder.path());
  EXPECT_EQ(names_in(folder.path()),
            (std::vector<std::string>{".a.0123456789abcdeg.tmp", ".a.tmp", ".hidden",
                                      "b.0123456789abcdef.tmp", "kept", "lost"}));
  EXPECT_EQ(read_bytes(folder / "kept"), "new");
  EXPECT_EQ(read_bytes(folder / "lost"), "the only copy");
}

TEST(WritableOutput, ANewNameAnEmptyFolderAndAnEmptyFileAreFree) {
  const TemporaryFolder folder;
  fs::create_directory(folder / "empty");
  folder.write("nothing", "");
  for (const char* name : {"new", "new/", "x/y/new", "empty", "empty/", "nothing"}) {
    SCOPED_TRACE(name);
    EXPECT_NO_THROW(require_writable_output(folder / name, false));
  }
  EXPECT_EQ(names_in(folder.path()), (std::vector<std::string>{"empty", "nothing"}));
  EXPECT_TRUE(names_in(folder / "empty").empty());
}

TEST(WritableOutput, WhatIsThereNeedsForce) {
  const TemporaryFolder folder;
  folder.write("file", "old");
  LOWRANK_EXPECT_ERROR(require_writable_output(folder.path(), false), FileError,
                       "must not exist yet, or be empty. Got a folder with 1 entry. Pass --force");
  LOWRANK_EXPECT_ERROR(require_writable_output(folder / "file", false), FileError,
                       "must not exist yet, or be empty. Got a file of 3 bytes. Pass --force");
  LOWRANK_EXPECT_ERROR(require_writable_output("/dev/null", false), FileError, "[output] ");
  EXPECT_NO_THROW(require_writable_output(folder.path(), true));
  EXPECT_NO_THROW(require_writable_output(folder / "file", true));
  EXPECT_EQ(read_bytes(folder / "file"), "old");
}

TEST(WritableOutput, WhatCannotBeWrittenIsRefusedWithForceToo) {
  const TemporaryFolder folder;
  folder.write("file", "old");
  for (const bool force : {false, true}) {
    LOWRANK_EXPECT_ERROR(require_writable_output("", force), FileError, "Got an empty one.");
    LOWRANK_EXPECT_ERROR(require_writable_output(folder / "file" / "out", force), FileError,
                         "file\", which is a file.");
    LOWRANK_EXPECT_ERROR(require_writable_output("/proc/out", force), FileError,
                         "[output] \"/proc/out\" must be writable. Got ");
    LOWRANK_EXPECT_ERROR(require_writable_output(folder / std::string(300, 'a'), force), FileError,
                         "must be writable. Got \"File name too long\".");
  }
}

}  // namespace
}  // namespace lowrank
