// Covers every function that reads files, in the library and in app/images.

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <lowrank/error.h>
#include <lowrank/io/file_bytes.h>
#include <lowrank/io/json.h>
#include <lowrank/io/npy.h>
#include <lowrank/io/safetensors.h>
#include <sys/stat.h>

#include <nlohmann/json.hpp>
#include <string>

#include "app/images/image_file.h"
#include "support/expect_error.h"
#include "support/temporary_folder.h"

namespace lowrank {
namespace {

/// If one of them waited, this test would never end, because nobody writes into the pipe.
TEST(Pipes, NoReaderOfFilesWaitsForTheirWriter) {
  const TemporaryFolder folder;
  const auto pipe = folder / "pipe";
  ASSERT_EQ(::mkfifo(pipe.c_str(), 0600), 0);
  const std::string message = "pipe\" must be a file. Got something else.";
  LOWRANK_EXPECT_ERROR(read_file(pipe, 10), FileError, message);
  LOWRANK_EXPECT_ERROR(read_npy(pipe), FileError, message);
  LOWRANK_EXPECT_ERROR(read_json_file(pipe), FileError, message);
  LOWRANK_EXPECT_ERROR(app::read_image(pipe, app::ImageChannels::kGray), FileError, message);
  LOWRANK_EXPECT_ERROR(SafetensorsFile::open(pipe), FileError, message);
  LOWRANK_EXPECT_ERROR(read_file("/dev/zero", 10), FileError, "\"/dev/zero\" must be a file.");
}

}  // namespace
}  // namespace lowrank
