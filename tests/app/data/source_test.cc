#include "app/data/source.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <lowrank/error.h>

#include <string>

#include "app/images/image_file.h"
#include "app/images/resize.h"
#include "support/expect_error.h"
#include "support/temporary_folder.h"
#include "support/tiny_images.h"

namespace lowrank::app {
namespace {

using Names = std::vector<std::string>;

class Source : public ::testing::Test {
 protected:
  void write(const std::string& name, const at::Tensor& image) {
    std::filesystem::create_directories((folder_ / name).parent_path());
    folder_.write(name, app::png_bytes(image));
  }
  Dataset load(DataSource source = {}, Split split = Split::kTrain) {
    source.data = folder_.path().string();
    return load_dataset(source, split);
  }

  TemporaryFolder folder_;
  const at::Tensor gray_ = at::randint(256, {4, 4}, at::kByte);
  const at::Tensor rgb_ = at::randint(256, {3, 4, 4}, at::kByte);
};

TEST_F(Source, NamesTheClassesOfAnImageFolder) {
  write("train/dog/1.png", gray_);
  write("train/cat/1.png", gray_);
  write("test/dog/1.png", gray_);
  const auto train = load();
  EXPECT_EQ(train.class_names, (Names{"cat", "dog"}));
  EXPECT_TRUE(at::equal(train.labels, at::tensor({0, 1}, at::kLong)));
  EXPECT_EQ(train.name, folder_.path().filename().string());
  // Where a class is missing in the test half, the others keep their numbers.
  EXPECT_EQ(load({}, Split::kTest).labels[0].item<int64_t>(), 1);
  write("test/wolf/1.png", gray_);
  LOWRANK_EXPECT_ERROR(load({}, Split::kTest), FileError,
                       "Got \"wolf\", which is none of cat, dog.");
  std::filesystem::remove_all(folder_ / "test" / "wolf");
  const auto known = load({.class_names = train.class_names}, Split::kTest);
  EXPECT_EQ(known.labels[0].item<int64_t>(), 1);
  EXPECT_EQ(known.classes, 2);
  EXPECT_TRUE(is_divided({.data = folder_.path().string()}));
}

TEST_F(Source, TakesFoldersThatAreNumbersAsTheNumbersOfClasses) {
  write("10/1.png", gray_);
  write("2/1.png", gray_);
  const auto data = load();
  EXPECT_TRUE(data.class_names.empty());
  EXPECT_TRUE(at::equal(data.labels, at::tensor({10, 2}, at::kLong)));
  EXPECT_EQ(data.classes, 11);
  write("1.5/1.png", gray_);
  EXPECT_EQ(load().class_names, (Names{"1.5", "10", "2"}));
}

TEST_F(Source, ReadsMnistsLayoutAsItAskedFor) {
  write_tiny_images(folder_);
  const auto plain = load();
  EXPECT_EQ(plain.inputs.sizes(), (at::IntArrayRef{300, 4, 4}));
  EXPECT_TRUE(is_in_mnist_layout({.data = folder_.path().string()}));
  const auto resized = load({.channels = 3, .resize = {2, 5}});
  EXPECT_EQ(resized.inputs.sizes(), (at::IntArrayRef{300, 3, 2, 5}));
  EXPECT_TRUE(at::equal(resized.inputs[7][1], resize_image(plain.inputs[7], 2, 5)));
}

TEST_F(Source, ChoosesTheChannels) {
  write("a/1.png", rgb_);
  write("b/1.png", gray_);
  EXPECT_EQ(load().channels(), 3);
  const auto gray = load({.channels = 1});
  EXPECT_EQ(gray.inputs.sizes(), (at::IntArrayRef{2, 4, 4}));
  EXPECT_TRUE(at::equal(gray.inputs[1], gray_));
  const auto weights = at::tensor({0.299, 0.587, 0.114}).view({3, 1, 1});
  const auto luminance = (rgb_.to(at::kDouble) * weights).sum(0);
  EXPECT_LE((gray.inputs[0].to(at::kDouble) - luminance).abs().max().item<double>(), 1.0);
}

TEST_F(Source, RefusesWhatItCannotRead) {
  LOWRANK_EXPECT_ERROR(
      load_dataset("mnits", Split::kTrain), FileError,
      "[data] a data set must be \"mnist\", a folder of images, or a .csv, .npy or "
      ".safetensors file. Got \"mnits\", where there is nothing. Did you mean "
      "\"mnist\"?");
  const auto text = folder_.write("notes.txt", "x").string();
  LOWRANK_EXPECT_ERROR(load_dataset(text, Split::kTrain), ArgumentError,
                       "a file of examples must be .csv, .npy or .safetensors. Got");
  const auto table = folder_.write("t.csv", "a,label\n1,0\n2,1\n").string();
  LOWRANK_EXPECT_ERROR(load_dataset(DataSource{.data = table, .resize = {4, 4}}, Split::kTrain),
                       ArgumentError,
                       "--resize and --channels must be for images. Got t.csv with 1 numbers.");
  LOWRANK_EXPECT_ERROR(load({.channels = 2}), ArgumentError, "--channels must be 1 or 3. Got 2.");
  LOWRANK_EXPECT_ERROR(load({.resize = {28}}), ArgumentError,
                       "Got 28. For squares pass --resize 28,28.");
  LOWRANK_EXPECT_ERROR(load({.resize = {0, 28}}), ArgumentError, "Got 0,28.");
  LOWRANK_EXPECT_ERROR(
      load_dataset(DataSource{.data = table, .class_names = {"no"}}, Split::kTrain), FileError,
      "must be classes that the model knows: no. Got \"0\" for example 0.");
}

}  // namespace
}  // namespace lowrank::app
