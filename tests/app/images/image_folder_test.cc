#include "app/images/image_folder.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <lowrank/error.h>

#include <string>

#include "app/images/resize.h"
#include "support/expect_error.h"
#include "support/temporary_folder.h"

namespace lowrank::app {
namespace {

using Names = std::vector<std::string>;

class ImageFolderTest : public ::testing::Test {
 protected:
  void write(const std::string& name, const at::Tensor& image) {
    std::filesystem::create_directories((folder_ / name).parent_path());
    folder_.write(name, app::png_bytes(image));
  }
  ImageFolder read(const ImageFolderOptions& options = {}, Split split = Split::kTrain) {
    return read_image_folder(folder_.path(), split, options);
  }

  TemporaryFolder folder_;
  const at::Tensor gray_ = at::randint(256, {5, 4}, at::kByte);
  const at::Tensor rgb_ = at::randint(256, {3, 5, 4}, at::kByte);
};

TEST_F(ImageFolderTest, OrdersByClassAndName) {
  write("b/2.png", gray_);
  write("b/1.png", 255 - gray_);
  write("a/9.png", gray_.flip(0));
  folder_.write("b/.hidden", "not an image");
  folder_.write(".DS_Store", "nor this");
  const auto read_back = read();
  EXPECT_EQ(read_back.classes, (Names{"a", "b", "b"}));
  EXPECT_TRUE(at::equal(read_back.images, at::stack({gray_.flip(0), 255 - gray_, gray_})));
}

TEST_F(ImageFolderTest, HasThreeChannelsIfAnyImageHas) {
  write("a/1.png", gray_);
  EXPECT_EQ(read().images.dim(), 3);
  write("a/2.png", rgb_);
  write("a/3.png", 255 - gray_);
  const auto mixed = read().images;
  ASSERT_EQ(mixed.sizes(), (at::IntArrayRef{3, 3, 5, 4}));
  EXPECT_TRUE(at::equal(mixed[0], gray_.expand({3, 5, 4})));
  EXPECT_TRUE(at::equal(mixed[1], rgb_));
  EXPECT_TRUE(at::equal(mixed[2], (255 - gray_).expand({3, 5, 4})));
  EXPECT_EQ(read({.channels = ImageChannels::kGray}).images.sizes(), (at::IntArrayRef{3, 5, 4}));
}

TEST_F(ImageFolderTest, ResizesOrRefusesOtherSizes) {
  write("a/1.png", gray_);
  write("b/1.png", at::randint(256, {9, 8}, at::kByte));
  LOWRANK_EXPECT_ERROR(read(), FileError, "all images must have the 5 x 4 pixels of");
  LOWRANK_EXPECT_ERROR(read(), FileError, "Got 9 x 8 in");
  LOWRANK_EXPECT_ERROR(read(), FileError, "Pass --resize HEIGHT,WIDTH.");
  const auto resized = read({.size = {6, 7}}).images;
  EXPECT_EQ(resized.sizes(), (at::IntArrayRef{2, 6, 7}));
  EXPECT_TRUE(at::equal(resized[0], resize_image(gray_, 6, 7)));
}

TEST_F(ImageFolderTest, TakesTheHalfThatIsAskedFor) {
  write("train/a/1.png", gray_);
  LOWRANK_EXPECT_ERROR(read({}, Split::kTest), FileError,
                       "must hold a folder test or val beside train");
  write("val/a/1.png", 255 - gray_);
  EXPECT_TRUE(at::equal(read().images[0], gray_));
  EXPECT_TRUE(at::equal(read({}, Split::kTest).images[0], 255 - gray_));
  EXPECT_TRUE(is_divided_image_folder(folder_.path()));
}

TEST_F(ImageFolderTest, KnowsOtherNamesOfTheHalves) {
  write("training/a/1.png", gray_);
  write("testing/a/1.png", 255 - gray_);
  EXPECT_TRUE(at::equal(read().images[0], gray_));
  EXPECT_TRUE(at::equal(read({}, Split::kTest).images[0], 255 - gray_));
}

TEST_F(ImageFolderTest, AClassMayBeCalledTrain) {
  write("bus/1.png", gray_);
  write("train/1.png", 255 - gray_);
  EXPECT_FALSE(is_divided_image_folder(folder_.path()));
  EXPECT_EQ(read().classes, (Names{"bus", "train"}));
}

TEST_F(ImageFolderTest, RefusesWhatItDoesNotKnow) {
  LOWRANK_EXPECT_ERROR(read(), FileError,
                       "must hold a folder of images for each class. Got nothing");
  write("cat/1.png", gray_);
  LOWRANK_EXPECT_ERROR(read({.class_names = {"cats", "dogs"}}), FileError,
                       "must be classes that the model knows. Got \"cat\", which is none of cats, "
                       "dogs. Did you mean \"cats\"?");
  std::filesystem::create_directory(folder_ / "dog");
  LOWRANK_EXPECT_ERROR(read(), FileError, "dog\" must hold images. Got none.");
  folder_.write("dog/1.txt", "woof");
  LOWRANK_EXPECT_ERROR(read(), FileError, "1.txt must be a PNG, JPEG or PGM (P2, P5) image");
  folder_.write("list.txt", "cat dog");
  LOWRANK_EXPECT_ERROR(read(), FileError, "and nothing else. Got \"list.txt\".");
}

}  // namespace
}  // namespace lowrank::app
