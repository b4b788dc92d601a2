#include "app/images/jpeg.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <lowrank/error.h>
#include <lowrank/io/safetensors.h>

#include <filesystem>
#include <string>

#include "support/expect_error.h"
#include "support/temporary_folder.h"

namespace lowrank::app {
namespace {

const std::filesystem::path kFixtures = LOWRANK_FIXTURES;

at::Tensor read_fixture(const std::string& name, ImageChannels channels) {
  return read_image(kFixtures / ("jpeg_" + name + ".jpg"), channels);
}

/// Versions of libjpeg may round a pixel to either side.
void expect_near(const at::Tensor& image, const at::Tensor& expected) {
  ASSERT_EQ(image.sizes(), expected.sizes());
  EXPECT_LE((image.to(at::kInt) - expected.to(at::kInt)).abs().max().item<int>(), 1);
}

TEST(Jpeg, IsReadAsPillowReadsIt) {
  const auto expected = SafetensorsFile::open(kFixtures / "jpeg.safetensors");
  for (const auto channels : {ImageChannels::kAny, ImageChannels::kGray}) {
    expect_near(read_fixture("gray", channels), expected.tensor("gray"));
  }
  expect_near(read_fixture("gray", ImageChannels::kRgb),
              expected.tensor("gray").expand({3, -1, -1}));
  for (const auto channels : {ImageChannels::kAny, ImageChannels::kRgb}) {
    expect_near(read_fixture("rgb", channels), expected.tensor("rgb"));
    expect_near(read_fixture("progressive", channels), expected.tensor("progressive"));
  }
  expect_near(read_fixture("rgb", ImageChannels::kGray), expected.tensor("rgb.luminance"));
}

TEST(Jpeg, RefusesDamagedFilesAndCmyk) {
  LOWRANK_EXPECT_ERROR(read_fixture("cmyk", ImageChannels::kAny), FileError,
                       "must be gray or RGB. Got a JPEG image of 4 components.");
  const auto whole = read_bytes(kFixtures / "jpeg_rgb.jpg");
  const TemporaryFolder folder;
  for (size_t size = 3; size + 2 < whole.size(); size += 7) {
    const auto file = folder.write("cut.jpg", whole.substr(0, size));
    LOWRANK_EXPECT_ERROR(read_image(file, ImageChannels::kAny), FileError,
                         "cut.jpg must be an intact JPEG image. Got \"");
  }
  auto huge = whole;  // the frame header says 65500 x 65500
  const auto frame = huge.find("\xff\xc0");
  ASSERT_NE(frame, std::string::npos);
  for (const size_t at : {5, 7}) {
    huge[frame + at] = '\xff';
    huge[frame + at + 1] = '\xdc';
  }
  LOWRANK_EXPECT_ERROR(read_image(folder.write("huge.jpg", huge), ImageChannels::kAny), FileError,
                       "huge.jpg must have 1 to 67108864 pixels. Got 65500 x 65500.");
}

}  // namespace
}  // namespace lowrank::app
