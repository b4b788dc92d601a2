#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <lowrank/checkpoint/checkpoint.h>
#include <lowrank/error.h>
#include <lowrank/io/npy.h>
#include <lowrank/io/safetensors.h>

#include <string>
#include <vector>

#include "support/expect_error.h"
#include "support/temporary_folder.h"

namespace lowrank {
namespace {

using Names = std::vector<std::string>;

class CheckpointFolder : public ::testing::Test {
 protected:
  void shard(const std::string& file, const std::vector<SafetensorsEntry>& entries) {
    write_safetensors(folder_ / file, entries, {{"format", "pt"}});
  }
  void index(const std::string& weight_map) {
    folder_.write("model.safetensors.index.json",
                  R"({"metadata": {"total_size": 1}, "weight_map": )" + weight_map + "}");
  }
  void expect_refused(const std::string& message) {
    LOWRANK_EXPECT_ERROR(Checkpoint::open(folder_.path()), FileError, message);
  }

  TemporaryFolder folder_;
  const at::Tensor x_ = at::randn({2, 3}), y_ = at::randn({4}).to(at::kBFloat16);
};

TEST_F(CheckpointFolder, IsOneFileOrAFolderWithOne) {
  shard("model.safetensors", {{"x", x_}, {"y", y_}});
  for (const auto& place : {folder_.path(), folder_ / "model.safetensors"}) {
    const auto checkpoint = Checkpoint::open(place);
    EXPECT_EQ(checkpoint.names(), (Names{"x", "y"}));
    EXPECT_TRUE(checkpoint.contains("y"));
    EXPECT_TRUE(at::equal(checkpoint.tensor("x"), x_));
    EXPECT_EQ(checkpoint.tensor("y").scalar_type(), at::kBFloat16);
    EXPECT_EQ(checkpoint.files().size(), 1);
    EXPECT_EQ(checkpoint.metadata_of(0).at("format"), "pt");
    LOWRANK_EXPECT_ERROR(checkpoint.tensor("z"), FileError, "must hold a tensor of this name");
  }
}

TEST_F(CheckpointFolder, SaysWhatIsStoredWithoutReadingIt) {
  shard("model.safetensors", {{"x", x_}, {"y", y_}});
  const auto checkpoint = Checkpoint::open(folder_.path());
  EXPECT_TRUE(checkpoint.is_safetensors());
  const auto stored = checkpoint.stored("y");
  EXPECT_EQ(stored.format, "BF16");
  EXPECT_EQ(stored.dtype, at::kBFloat16);
  EXPECT_EQ(stored.shape, std::vector<int64_t>{4});
  LOWRANK_EXPECT_ERROR(checkpoint.stored("z"), FileError, "must hold a tensor of this name");
}

TEST_F(CheckpointFolder, IsAnArrayOfNumPy) {
  write_npy(folder_ / "x.npy", x_);
  const auto checkpoint = Checkpoint::open(folder_ / "x.npy");
  EXPECT_EQ(checkpoint.names(), Names{"weight"});
  EXPECT_TRUE(at::equal(checkpoint.tensor("weight"), x_));
  EXPECT_EQ(checkpoint.stored("weight").format, "F32");
  EXPECT_FALSE(checkpoint.is_safetensors());
}

TEST_F(CheckpointFolder, IsMadeOfTensors) {
  const auto checkpoint = Checkpoint::from_tensors("models/x.pt", {{"x", x_}, {"y", y_}});
  EXPECT_EQ(checkpoint.names(), (Names{"x", "y"}));
  EXPECT_TRUE(at::equal(checkpoint.tensor("y"), y_));
  EXPECT_EQ(checkpoint.stored("y").format, "BF16");
  EXPECT_EQ(checkpoint.files(), std::vector<std::filesystem::path>{"x.pt"});
  EXPECT_FALSE(checkpoint.is_safetensors());
  LOWRANK_EXPECT_ERROR(Checkpoint::from_tensors("x.pt", {{"x", x_}, {"x", y_}}), FileError,
                       "\"x\" must be in one file");
}

TEST_F(CheckpointFolder, WithAGgufFileSaysToNameIt) {
  folder_.write("model.gguf", "GGUF");
  expect_refused("Got \"model.gguf\". Name the GGUF file itself.");
}

TEST_F(CheckpointFolder, IsShardsWithAnIndex) {
  shard("b.safetensors", {{"x", x_}});
  shard("a.safetensors", {{"y", y_}});
  index(R"({"x": "b.safetensors", "y": "a.safetensors"})");
  const auto checkpoint = Checkpoint::open(folder_.path());
  EXPECT_TRUE(checkpoint.is_folder());
  EXPECT_EQ(checkpoint.names(), (Names{"y", "x"}));
  EXPECT_EQ(checkpoint.files(),
            (std::vector<std::filesystem::path>{"a.safetensors", "b.safetensors"}));
  EXPECT_EQ(checkpoint.names_in(1), Names{"x"});
  EXPECT_TRUE(at::equal(checkpoint.tensor("x"), x_));
}

/// transformers reads the one file where a folder holds both.
TEST_F(CheckpointFolder, TakesOneFileBeforeAnIndex) {
  shard("model.safetensors", {{"x", x_}});
  shard("a.safetensors", {{"y", y_}});
  index(R"({"y": "a.safetensors"})");
  EXPECT_EQ(Checkpoint::open(folder_.path()).names(), Names{"x"});
}

TEST_F(CheckpointFolder, RefusesAnIndexThatDoesNotFitItsShards) {
  shard("a.safetensors", {{"x", x_}, {"y", y_}});
  index(R"({"x": "a.safetensors"})");
  expect_refused("must list all tensors. Got 1 of 2.");
  index(R"({"x": "a.safetensors", "y": "a.safetensors", "z": "a.safetensors"})");
  expect_refused("\"z\" must be in");
  index(R"({"x": "a.safetensors", "y": "b.safetensors"})");
  expect_refused("b.safetensors");
  shard("b.safetensors", {{"y", y_}});
  expect_refused("\"y\" must be in one file of");
  index(R"({"x": "../a.safetensors"})");
  expect_refused("the file of \"x\" in");
  index(R"({"x": "a.safetensors\u0000b"})");
  expect_refused("must be a file name.");
  index(R"({"x": ".."})");
  expect_refused("must be a file name.");
  index(R"({"x": 3})");
  expect_refused("must be a file name. Got 3.");
  index("[]");
  expect_refused("must hold a weight_map of tensors to files. Got array.");
  folder_.write("model.safetensors.index.json", "{}");
  expect_refused("must hold a weight_map of tensors to files. Got none.");
}

TEST_F(CheckpointFolder, SaysWhatIsThereInstead) {
  expect_refused("must hold model.safetensors or model.safetensors.index.json. Got neither.");
  folder_.write("pytorch_model.bin", "x");
  expect_refused("Got pytorch_model.bin. Convert it: python3 -c");
  LOWRANK_EXPECT_ERROR(Checkpoint::open(folder_ / "none"), FileError, "none");
}

}  // namespace
}  // namespace lowrank
