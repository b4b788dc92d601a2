#pragma once

#include <ATen/core/Tensor.h>

#include <filesystem>
#include <string>

#include "app/images/split.h"

/// MNIST's layout: train-images-idx3-ubyte, train-labels-idx1-ubyte, and the same with t10k for the
/// test half. Each file may be compressed with gzip, and may be spelt train-images.idx3-ubyte.
namespace lowrank::app {

/// Returns the path of the file `name` ("train-images-idx3-ubyte") in `folder`, in any of its usual
/// spellings. Returns an empty path if there is none.
std::filesystem::path find_layout_file(const std::filesystem::path& folder,
                                       const std::string& name);

/// Returns whether a folder holds any of the four files.
bool has_layout(const std::filesystem::path& folder);

/// The files of one half begin with "train" or "t10k".
std::string layout_prefix(Split split);

/// Gray images, each with a class.
struct LabelledImages {
  at::Tensor images;  // uint8 (N, H, W)
  at::Tensor labels;  // int64 (N), each in [0, 10)
};

/// Reads one half of a data set. Throws FileError, naming the file, if a file is missing, damaged,
/// mislabelled (labels given as images) or has a wrong checksum, if the numbers of images and
/// labels differ or are 0, or if a label is not in 0..9.
LabelledImages read_layout(const std::filesystem::path& folder, Split split);

/// Returns the SHA-256 of a file's content, inflated if it is gzip. Reads at most `most_bytes` + 1
/// bytes of the content. Throws FileError like InputFile.
std::string content_sha256(const std::filesystem::path& path, uint64_t most_bytes);

}  // namespace lowrank::app
