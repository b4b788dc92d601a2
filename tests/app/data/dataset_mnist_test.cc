// Covers app/images/mnist_cache.cc and dataset.cc on the real files.

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <vector>

#include "app/data/source.h"
#include "app/images/mnist_cache.h"

// Needs MNIST in the cache: `lowrank data fetch mnist` puts it there, and `make test` runs that.

namespace lowrank::app {
namespace {

TEST(Mnist, HasItsKnownSizesAndClasses) {
  const auto train = load_dataset("mnist", Split::kTrain);
  EXPECT_EQ(train.name, "mnist");
  EXPECT_EQ(train.inputs.sizes(), (at::IntArrayRef{60000, 28, 28}));
  EXPECT_EQ(class_counts(train),
            (std::vector<int64_t>{5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949}));
  const auto test = load_dataset("mnist", Split::kTest);
  EXPECT_EQ(test.inputs.sizes(), (at::IntArrayRef{10000, 28, 28}));
  EXPECT_EQ(class_counts(test),
            (std::vector<int64_t>{980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009}));
}

TEST(Mnist, HasTheMeanAndDeviationOfTheDefaults) {
  const auto pixels = input_statistics(load_dataset("mnist", Split::kTrain));
  EXPECT_NEAR(pixels.mean.at(0), Normalization{}.mean[0], 5e-5);
  EXPECT_NEAR(pixels.deviation.at(0), Normalization{}.deviation[0], 5e-5);
}

TEST(Mnist, IsTheSameFromItsFolder) {
  const auto named = load_dataset("mnist", Split::kTest);
  const auto folder = load_dataset((data_cache() / "mnist").string(), Split::kTest);
  EXPECT_TRUE(at::equal(named.inputs, folder.inputs));
  EXPECT_TRUE(at::equal(named.labels, folder.labels));
}

TEST(Mnist, NormalizesToAboutZeroAndOne) {
  const auto train = load_dataset("mnist", Split::kTrain);
  const at::Tensor all = batch_inputs(train, at::arange(train.size(), at::kLong), {});
  EXPECT_NEAR(all.mean(at::kDouble).item<double>(), 0, 1e-3);
  EXPECT_NEAR(all.to(at::kDouble).std().item<double>(), 1, 1e-3);
}

}  // namespace
}  // namespace lowrank::app
