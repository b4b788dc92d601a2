#include "app/runs/folder_lock.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <lowrank/error.h>
#include <unistd.h>

#include <fstream>

#include "support/expect_error.h"
#include "support/temporary_folder.h"

namespace lowrank::app {
namespace {

namespace fs = std::filesystem;

TEST(FolderLock, IsHeldByOneProcessAtATimeWhichIsNamed) {
  const TemporaryFolder folder;
  {
    const FolderLock first(folder.path());
    LOWRANK_EXPECT_ERROR(FolderLock(folder.path()), FileError,
                         "must not be in use by another command. Got process " +
                             std::to_string(::getpid()) + ", which is writing to it.");
  }
  EXPECT_NO_THROW(FolderLock(folder.path()));
  EXPECT_TRUE(fs::is_empty(folder.path()));
}

TEST(FolderLock, MakesTheFolderAndRemovesItIfNothingIsWritten) {
  const TemporaryFolder folder;
  const auto out = folder / "a" / "b";
  {
    const FolderLock lock(out);
    EXPECT_TRUE(fs::is_directory(out));
  }
  EXPECT_FALSE(fs::exists(out));
  {
    const FolderLock lock(out);
    std::ofstream(out / "file") << "x";
  }
  EXPECT_TRUE(fs::exists(out / "file"));
  folder.write("file", "");
  LOWRANK_EXPECT_ERROR(FolderLock(folder / "file"), FileError, "must be a folder to write to");
}

TEST(FolderLock, RemovesWhatKilledCommandsLeft) {
  const TemporaryFolder folder;
  folder.write(".checkpoint.safetensors.0123456789abcdef.tmp", "half");
  folder.write(".probe.0123456789abcdef.tmp", "");
  folder.write("notes.txt", "the user's");
  const FolderLock lock(folder.path());
  EXPECT_EQ(std::distance(fs::directory_iterator(folder.path()), {}), 1);
  EXPECT_TRUE(fs::exists(folder / "notes.txt"));
}

}  // namespace
}  // namespace lowrank::app
