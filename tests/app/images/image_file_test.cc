#include "app/images/image_file.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <lowrank/error.h>
#include <png.h>
#include <zlib.h>

#include <stdexcept>
#include <string>
#include <vector>

#include "support/expect_error.h"
#include "support/temporary_folder.h"

namespace lowrank::app {
namespace {

/// Returns the bytes of a PNG file of `pixels`, which are in libpng's simplified `format`
/// (PNG_FORMAT_GRAY, ..._RGBA, ...).
std::string png_bytes(uint32_t width, uint32_t height, uint32_t format,
                      const std::vector<uint8_t>& pixels) {
  png_image image{};
  image.version = PNG_IMAGE_VERSION;
  image.width = width;
  image.height = height;
  image.format = format;
  std::string bytes(1 << 16, '\0');
  png_alloc_size_t size = bytes.size();
  if (png_image_write_to_memory(&image, bytes.data(), &size, 0, pixels.data(), 0, nullptr) == 0) {
    throw std::runtime_error(image.message);
  }
  bytes.resize(size);
  return bytes;
}

at::Tensor read(const std::string& bytes) {
  const TemporaryFolder folder;
  return read_image(folder.write("image", bytes), ImageChannels::kGray);
}

at::Tensor gray(const std::vector<int64_t>& values, at::IntArrayRef sizes) {
  return at::tensor(values).to(at::kByte).view(sizes);
}

void expect_image_error(const std::string& bytes, const std::string& message) {
  const TemporaryFolder folder;
  const auto path = folder.write("picture", bytes);
  LOWRANK_EXPECT_ERROR(read_image(path, ImageChannels::kGray), FileError,
                       "[image] " + path.string() + " " + message);
}

const std::string kGrayPng = png_bytes(3, 2, PNG_FORMAT_GRAY, {0, 1, 2, 127, 254, 255});

TEST(ImageFile, ReadsGrayPngUnchanged) {
  const at::Tensor image = read(kGrayPng);
  EXPECT_EQ(image.scalar_type(), at::kByte);
  EXPECT_TRUE(at::equal(image, gray({0, 1, 2, 127, 254, 255}, {2, 3})));
}

TEST(ImageFile, ConvertsColoursToLuminance) {
  const at::Tensor image =
      read(png_bytes(3, 1, PNG_FORMAT_RGB, {255, 255, 255, 80, 80, 80, 0, 255, 0}));
  EXPECT_EQ(image[0][0].item<int>(), 255);
  EXPECT_NEAR(image[0][1].item<int>(), 80, 1);
  EXPECT_EQ(image[0][2].item<int>(), 150);  // 0.587 of 255
}

TEST(ImageFile, ReadsSixteenBitsOnTheCurveOfEight) {
  // Five gray pixels, 257 times 0, 64, 128, 192 and 255, as Pillow writes them.
  const std::string png(
      "\x89\x50\x4e\x47\x0d\x0a\x1a\x0a\x00\x00\x00\x0d\x49\x48\x44\x52\x00\x00\x00\x05"
      "\x00\x00\x00\x01\x10\x00\x00\x00\x00\x63\x05\xe7\x6c\x00\x00\x00\x13\x49\x44\x41"
      "\x54\x78\x9c\x63\x64\x60\x70\x70\x70\x70\x70\x70\xb0\xb7\x07\x00\x09\x13\x02\x00"
      "\x1b\xae\x00\x96\x00\x00\x00\x00\x49\x45\x4e\x44\xae\x42\x60\x82",
      76);
  EXPECT_TRUE(at::equal(read(png), gray({0, 64, 128, 192, 255}, {1, 5})));
}

TEST(ImageFile, LeavesPixelsAsTheyAreWhateverGammaTheFileNames) {
  const auto chunk = [](const std::string& name, const std::string& data) {
    const auto number = [](uint64_t value) {
      std::string bytes;
      for (int shift = 24; shift >= 0; shift -= 8) {
        bytes.push_back(static_cast<char>(value >> shift & 0xff));
      }
      return bytes;
    };
    const auto named = name + data;
    const auto sum =
        crc32(0, reinterpret_cast<const Bytef*>(named.data()), static_cast<uInt>(named.size()));
    return number(data.size()) + named + number(sum);
  };
  constexpr size_t kHeader = 8 + 25;  // signature and IHDR
  auto png = kGrayPng;
  png.insert(kHeader, chunk("gAMA", std::string("\x00\x01\x86\xa0", 4)));  // 1.0, linear light
  EXPECT_TRUE(at::equal(read(png), gray({0, 1, 2, 127, 254, 255}, {2, 3})));
}

TEST(ImageFile, ReadsPngsThatEndOddly) {
  const auto pixels = gray({0, 1, 2, 127, 254, 255}, {2, 3});
  for (const char* rest : {"\n", "\r\n", "abc", "abcd", "abcdefghijklm"}) {
    EXPECT_TRUE(at::equal(read(kGrayPng + rest), pixels)) << rest;
  }
  for (size_t size = 8; size < kGrayPng.size() - 12; ++size) {
    EXPECT_THROW(read(kGrayPng.substr(0, size)), FileError) << size;
  }
}

TEST(ImageFile, BlendsHalfTransparentPixelsAsViewersDo) {
  const auto pixels = png_bytes(2, 1, PNG_FORMAT_RGBA, {0, 0, 0, 64, 200, 200, 200, 128});
  EXPECT_TRUE(at::equal(read(pixels), gray({191, 227}, {1, 2})));
}

TEST(ImageFile, LaysTransparentPixelsOnWhite) {
  const at::Tensor image = read(png_bytes(2, 1, PNG_FORMAT_RGBA, {0, 0, 0, 0, 0, 0, 0, 255}));
  EXPECT_TRUE(at::equal(image, gray({255, 0}, {1, 2})));
  EXPECT_TRUE(at::equal(read(png_bytes(2, 1, PNG_FORMAT_GA, {0, 0, 0, 255})), image));
}

TEST(ImageFile, ReadsPlainAndBinaryPgm) {
  const at::Tensor expected = gray({0, 10, 255, 7}, {2, 2});
  EXPECT_TRUE(at::equal(read("P2\n# made by hand\n2 2 # size\n255\n0 10\n255 7\n"), expected));
  EXPECT_TRUE(at::equal(read(std::string("P5 2 2 255\n\0\x0a\xff\x07", 15)), expected));
  EXPECT_TRUE(at::equal(read("P2 1 1 255 9"), gray({9}, {1, 1})));
}

TEST(ImageFile, ScalesOtherPgmRanges) {
  EXPECT_TRUE(at::equal(read("P2 4 1 15\n0 1 8 15"), gray({0, 17, 136, 255}, {1, 4})));
  EXPECT_TRUE(at::equal(read(std::string("P5 3 1 65535\n\0\0\x80\x00\xff\xff", 19)),
                        gray({0, 128, 255}, {1, 3})));
}

TEST(ImageFile, RefusesOtherFiles) {
  expect_image_error(
      "\x89PNE....",
      "must be a PNG, JPEG or PGM (P2, P5) image. Got a file that begins with 89 50 4e 45.");
  expect_image_error("", "must be a PNG, JPEG or PGM (P2, P5) image. Got an empty file.");
  expect_image_error(
      "P6 1 1 255\n...",
      "must be a PNG, JPEG or PGM (P2, P5) image. Got a file that begins with 50 36 20 31.");
  const TemporaryFolder folder;
  LOWRANK_EXPECT_ERROR(read_image(folder / "none.png", ImageChannels::kGray), FileError,
                       "none.png");
  LOWRANK_EXPECT_ERROR(read_image(folder.path(), ImageChannels::kGray), FileError, "folder");
}

TEST(ImageFile, RefusesDamagedPng) {
  expect_image_error(kGrayPng.substr(0, 20), "must be an intact PNG image. Got \"");
  expect_image_error(kGrayPng.substr(0, kGrayPng.size() - 20),
                     "must be an intact PNG image. Got \"");
  std::string flipped = kGrayPng;
  flipped[20] = static_cast<char>(flipped[20] ^ 1);  // in IHDR, which its checksum guards
  expect_image_error(flipped, "must be an intact PNG image. Got \"");
}

TEST(ImageFile, RefusesHugeImagesBeforeReadingThem) {
  const std::string required = "must have 1 to 67108864 pixels. Got ";
  expect_image_error("P5 10000 10000 255\n", required + "10000 x 10000.");
  expect_image_error("P2 0 3 255\n", required + "0 x 3.");
  // An IHDR chunk of 20000 x 20000 pixels, with its right checksum.
  std::string huge = kGrayPng;
  huge.replace(16, 8, std::string("\0\0\x4e\x20\0\0\x4e\x20", 8));
  const uint32_t sum =
      static_cast<uint32_t>(crc32(0, reinterpret_cast<const Bytef*>(huge.data() + 12), 17));
  for (int i = 0; i < 4; ++i) huge[29 + i] = static_cast<char>(sum >> (24 - 8 * i) & 0xff);
  expect_image_error(huge, required + "20000 x 20000.");
}

TEST(ImageFile, RefusesDamagedPgm) {
  expect_image_error("P5 2 2 255\n...", "must hold 5 bytes after its header. Got 4.");
  expect_image_error("P5 2 2 255\n.....", "must hold 5 bytes after its header. Got 6.");
  expect_image_error("P5 2 2 300\n....", "must hold 9 bytes after its header. Got 5.");
  expect_image_error("P2 2 2 255\n1 2 3", "must hold at least 8 bytes after its header. Got 6.");
  expect_image_error("P2 2 2 255\n  1  2  3",
                     "must hold a value of 0 to 255 at byte 20. Got the end of the file.");
  expect_image_error("P2 2 2 255\n1 2 3 4 5", "must hold nothing after its pixels. Got 1 bytes.");
  expect_image_error("P2 1 1 15\n16", "must hold a value of 0 to 15 at byte 10. Got 16.");
  expect_image_error("P2 1 1 15\n-1", "must hold a value of 0 to 15 at byte 10. Got the byte 2d.");
  expect_image_error("P5 1 1 15\n\x10", "must hold a value of 0 to 15 before byte 11. Got 16.");
  expect_image_error("P2 1 1 0\n0", "must hold a largest value of 1 to 65535. Got 0.");
  expect_image_error("P2 1 1 70000\n0",
                     "must hold a largest value of 0 to 65535 at byte 7. Got 70000.");
  expect_image_error("P2 99999999999999999999 1 1 0",
                     "must hold a width of 0 to 16777216 at byte 3. Got 99999999999999999999.");
  expect_image_error("P2",
                     "must hold a width of 0 to 16777216 at byte 2. Got the end of the file.");
}

}  // namespace
}  // namespace lowrank::app
