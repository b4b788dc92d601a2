#include "app/data/source.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <lowrank/error.h>

#include <cmath>
#include <string>

#include "app/images/idx_files.h"
#include "support/expect_error.h"
#include "support/scoped_environment.h"
#include "support/temporary_folder.h"

namespace lowrank::app {
namespace {

Dataset load(const TemporaryFolder& folder) {
  return load_dataset(folder.path().string(), Split::kTrain);
}

TEST(Dataset, LoadsMnistLayout) {
  const TemporaryFolder folder;
  write_small_set(folder, 12);
  for (const Split split : {Split::kTrain, Split::kTest}) {
    const auto set = load_dataset(folder.path().string() + "/", split);
    EXPECT_EQ(set.size(), 12);
    EXPECT_EQ(set.inputs.sizes(), (at::IntArrayRef{12, 2, 3}));
    EXPECT_EQ(set.inputs[11][1][2].item<int>(), 71);
    EXPECT_TRUE(at::equal(set.labels, at::arange(12, at::kLong).remainder(10)));
    EXPECT_EQ(set.classes, 10);
  }
  EXPECT_EQ(load(folder).name, folder.path().filename().string());
}

TEST(Dataset, LoadsEverySpelling) {
  const TemporaryFolder folder;
  write_small_set(folder, 3);
  const std::string images = read_bytes(folder / "train-images-idx3-ubyte");
  const std::string labels = read_bytes(folder / "train-labels-idx1-ubyte");
  const TemporaryFolder other;
  other.write("train-images.idx3-ubyte", images);
  other.write("train-labels-idx1-ubyte.gz", gzip_bytes(labels));
  EXPECT_EQ(load(other).size(), 3);
  const TemporaryFolder third;
  third.write("train-images.idx3-ubyte.gz", gzip_bytes(images));
  third.write("train-labels.idx1-ubyte", labels);
  EXPECT_EQ(load(third).size(), 3);
}

TEST(Dataset, NamesTheMissingFile) {
  const TemporaryFolder folder;
  write_small_set(folder, 3);
  std::filesystem::remove(folder / "train-images-idx3-ubyte");
  LOWRANK_EXPECT_ERROR(
      load(folder), FileError,
      "[data] " + folder.path().string() +
          " must hold train-images-idx3-ubyte (uncompressed or .gz). Got a folder without it.");
}

TEST(Dataset, RefusesMislabelledFiles) {
  const TemporaryFolder folder;
  write_small_set(folder, 3);
  const std::string labels = read_bytes(folder / "train-labels-idx1-ubyte");
  folder.write("train-labels-idx1-ubyte", read_bytes(folder / "train-images-idx3-ubyte"));
  LOWRANK_EXPECT_ERROR(
      load(folder), FileError,
      "train-labels-idx1-ubyte must hold labels (1 dimension). Got 3 dimensions. Are "
      "image and label files swapped?");
  folder.write("train-labels-idx1-ubyte", labels);
  folder.write("train-images-idx3-ubyte", labels);
  LOWRANK_EXPECT_ERROR(
      load(folder), FileError,
      "train-images-idx3-ubyte must hold images (3 dimensions). Got 1 dimension. Are");
}

TEST(Dataset, RefusesCountsThatDiffer) {
  const TemporaryFolder folder;
  write_small_set(folder, 3);
  folder.write("train-labels-idx1-ubyte", idx_bytes({2}, std::string(2, '\1')));
  LOWRANK_EXPECT_ERROR(load(folder), FileError,
                       "train must have one label per image. Got 3 images and 2 labels.");
}

TEST(Dataset, RefusesLabelsOutOfRange) {
  const TemporaryFolder folder;
  write_small_set(folder, 3);
  folder.write("train-labels-idx1-ubyte", idx_bytes({3}, "\1\2\xc8"));
  LOWRANK_EXPECT_ERROR(load(folder), FileError, "train must be 0 to 9. Got 200 at position 2.");
}

TEST(Dataset, RefusesEmptySets) {
  const TemporaryFolder folder;
  write_small_set(folder, 0);
  LOWRANK_EXPECT_ERROR(load(folder), FileError,
                       "must hold at least one image with one pixel. Got 0 images of 2 x 3.");
}

TEST(Dataset, RefusesUnknownNames) {
  LOWRANK_EXPECT_ERROR(load_dataset("nmist", Split::kTrain), FileError,
                       "Got \"nmist\", where there is nothing");
  LOWRANK_EXPECT_ERROR(load_dataset("mnistt", Split::kTrain), FileError, "Did you mean \"mnist\"?");
}

TEST(Dataset, SaysHowToGetMnist) {
  const TemporaryFolder folder;
  const ScopedEnvironment cache("LOWRANK_DATA", folder.path().string());
  LOWRANK_EXPECT_ERROR(
      load_dataset("mnist", Split::kTest), FileError,
      "[data] the cache " + (folder / "mnist").string() +
          " must hold t10k-images-idx3-ubyte. Got a folder without it. Run `lowrank "
          "data fetch mnist` first.");
}

TEST(Dataset, NamesAWrongChecksumInTheCache) {
  const TemporaryFolder folder;
  const ScopedEnvironment cache("LOWRANK_DATA", folder.path().string());
  std::filesystem::create_directories(folder / "mnist");
  folder.write("mnist/t10k-images-idx3-ubyte", idx_bytes({1, 28, 28}, std::string(784, '\0')));
  LOWRANK_EXPECT_ERROR(load_dataset("mnist", Split::kTest), FileError,
                       "mnist/t10k-images-idx3-ubyte must have the SHA-256 0fa7898d509279e4");
  LOWRANK_EXPECT_ERROR(load_dataset("mnist", Split::kTest), FileError,
                       "Run `lowrank data fetch mnist` to replace it.");
}

TEST(Dataset, FindsTheImagesOfAClass) {
  const TemporaryFolder folder;
  write_small_set(folder, 13);
  const auto set = load(folder);
  EXPECT_TRUE(at::equal(indices_of_class(set, 2), at::tensor({2, 12}, at::kLong)));
  EXPECT_TRUE(at::equal(indices_of_other_classes(set, 2),
                        at::tensor({0, 1, 3, 4, 5, 6, 7, 8, 9, 10, 11}, at::kLong)));
  EXPECT_EQ(class_counts(set), (std::vector<int64_t>{2, 2, 2, 1, 1, 1, 1, 1, 1, 1}));
}

TEST(Dataset, RefusesAClassWithoutExamples) {
  const TemporaryFolder folder;
  write_small_set(folder, 5);
  auto set = load(folder);
  set.name = "small";
  LOWRANK_EXPECT_ERROR(indices_of_class(set, 7), ArgumentError,
                       "[data] class 7 must have examples in small. Got none.");
  LOWRANK_EXPECT_ERROR(indices_of_other_classes(set, 7), ArgumentError,
                       "class 7 must have examples");
  LOWRANK_EXPECT_ERROR(indices_of_class(set, 10), ArgumentError,
                       "[data] a class of small must be 0 to 9. Got 10.");
  LOWRANK_EXPECT_ERROR(indices_of_class(set, -1), ArgumentError, "Got -1.");
}

TEST(Dataset, SelectsInTheOrderAskedFor) {
  const TemporaryFolder folder;
  write_small_set(folder, 13);
  const auto set = load(folder);
  const auto part = select(set, at::tensor({12, 0, 12}, at::kLong));
  EXPECT_EQ(part.size(), 3);
  EXPECT_TRUE(at::equal(part.inputs[0], set.inputs[12]));
  EXPECT_TRUE(at::equal(part.labels, at::tensor({2, 0, 2}, at::kLong)));
  LOWRANK_EXPECT_ERROR(select(set, at::tensor({13}, at::kLong)), TensorError,
                       "[data] indices must be 0 to 12. Got 13.");
}

TEST(Dataset, MeasuresItsPixels) {
  Dataset set;
  set.inputs = at::randint(256, {7, 5, 3}, at::kByte);
  set.labels = at::zeros({7}, at::kLong);
  const at::Tensor scaled = set.inputs.to(at::kDouble) / 255;
  const auto gray = input_statistics(set);
  EXPECT_NEAR(gray.mean.at(0), scaled.mean().item<double>(), 1e-12);
  EXPECT_NEAR(gray.deviation.at(0), scaled.std(/*unbiased=*/false).item<double>(), 1e-12);

  set.inputs = at::randint(256, {7, 3, 5, 2}, at::kByte);
  const auto colours = input_statistics(set);
  ASSERT_EQ(colours.mean.size(), 3);
  for (int64_t channel = 0; channel < 3; ++channel) {
    const auto plane = set.inputs.select(1, channel).to(at::kDouble) / 255;
    const auto at = static_cast<size_t>(channel);
    EXPECT_NEAR(colours.mean[at], plane.mean().item<double>(), 1e-12);
    EXPECT_NEAR(colours.deviation.at(at), plane.std(/*unbiased=*/false).item<double>(), 1e-12);
  }
  LOWRANK_EXPECT_ERROR(input_statistics({}), TensorError, "at least one number");
}

TEST(Dataset, MeasuresItsColumns) {
  Dataset set;
  set.inputs = at::randn({50, 3});
  set.inputs.select(1, 1).fill_(4);
  const auto columns = input_statistics(set);
  ASSERT_EQ(columns.mean.size(), 3);
  EXPECT_NEAR(columns.mean[0], set.inputs.select(1, 0).to(at::kDouble).mean().item<double>(),
              1e-12);
  EXPECT_EQ(columns.mean[1], 4);
  EXPECT_EQ(columns.deviation[1], 1) << "a constant cannot be scaled";
  set.inputs = at::randn({20, 3, 4});
  EXPECT_EQ(input_statistics(set).mean.size(), 1) << "the numbers of a sequence have no columns";
}

}  // namespace
}  // namespace lowrank::app
