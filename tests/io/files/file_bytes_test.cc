#include <lowrank/error.h>
#include <lowrank/io/file_bytes.h>
#include <sys/stat.h>

#include <thread>

#include "support/expect_error.h"
#include "support/temporary_folder.h"

namespace lowrank {
namespace {

TEST(FileBytes, ReadsTheWholeFile) {
  const TemporaryFolder folder;
  const std::string bytes = std::string("a\0b\n", 4) + std::string(200'000, 'x');
  EXPECT_EQ(read_file(folder.write("f", bytes), 1 << 20), bytes);
  EXPECT_EQ(read_file(folder.write("exact", "1234"), 4), "1234");
  EXPECT_EQ(read_file(folder.write("empty", ""), 0), "");
  // The system gives this file's size as 0.
  EXPECT_GT(read_file("/proc/self/maps", 1 << 20).size(), 0U);
}

TEST(FileBytes, ReadsAPipe) {
  const TemporaryFolder folder;
  ASSERT_EQ(::mkfifo((folder / "pipe").c_str(), 0600), 0);
  const std::string bytes(300'000, 'x');
  const auto feed = [&] { std::ofstream(folder / "pipe") << bytes; };
  std::thread writer(feed);
  EXPECT_EQ(read_file(folder / "pipe", 300'000, Pipes::kRead), bytes);
  writer.join();
}

TEST(FileBytes, RefusesMissingFoldersAndTooLong) {
  const TemporaryFolder folder;
  LOWRANK_EXPECT_ERROR(read_file(folder / "none", 10), FileError,
                       "none\" must exist. Got \"No such file or directory\".");
  LOWRANK_EXPECT_ERROR(read_file(folder.path(), 10), FileError, "must be a file. Got a folder.");
  LOWRANK_EXPECT_ERROR(read_file(folder.write("f", "12345"), 4), FileError,
                       "f\" must be at most 4 bytes long. Got 5 bytes.");
  LOWRANK_EXPECT_ERROR(read_file("/dev/zero", 1000, Pipes::kRead), FileError,
                       "[file] \"/dev/zero\" must be at most 1000 bytes long. Got more.");
  LOWRANK_EXPECT_ERROR(read_file(folder / "f" / "g", 10), FileError,
                       "must be readable. Got \"Not a directory\".");
}

}  // namespace
}  // namespace lowrank
