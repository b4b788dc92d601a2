#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace lowrank::app {

/// Gray images, each with a class, in memory as they are stored in the file.
struct ImageDataset {
  at::Tensor images;  // uint8 (N, H, W), contiguous, on the CPU
  at::Tensor labels;  // int64 (N), each in [0, classes)
  std::string name;   // "mnist", or the name of the folder it came from
  int64_t classes = 10;

  int64_t size() const { return labels.defined() ? labels.size(0) : 0; }
};

/// Maps a pixel p in 0..255 to (p / 255 - mean) / deviation. The defaults are those of MNIST.
struct Normalization {
  double mean = 0.1307;
  double deviation = 0.3081;  // finite and not 0
};

/// Throws ArgumentError if the mean, the deviation or the inverse of the deviation is not finite in
/// float32. That refuses a deviation of 0, too.
void check(const Normalization& normalization);

enum class Split { kTrain, kTest };

/// Loads one half of a set of images with ten classes. "mnist" is the set that `lowrank data fetch
/// mnist` puts into the cache (its checksums are checked at each load); anything else is a folder
/// in MNIST's layout: train-images-idx3-ubyte, train-labels-idx1-ubyte, and the same with t10k for
/// the test half. Each file may be compressed with gzip, and may be spelt train-images.idx3-ubyte.
///
/// Throws ArgumentError for any other argument. Throws FileError, naming the file, if a file is
/// missing, damaged, mislabelled (labels given as images) or has a wrong checksum, if the numbers
/// of images and labels differ or are 0, or if a label is not in 0..9.
ImageDataset load_image_dataset(const std::string& name_or_folder, Split split);

/// Returns the files in the folder of such a data set, so that no output takes the place of one.
std::vector<std::filesystem::path> files_of(const std::string& name_or_folder);

/// Returns a copy of the images and labels at `indices` (int64 (M), each in [0, N)).
ImageDataset select(const ImageDataset& dataset, const at::Tensor& indices);

/// Returns the indices of the images of class `label`: int64 (M), ascending, M > 0. Throws
/// ArgumentError for a class that the set does not have or has no examples of.
at::Tensor indices_of_class(const ImageDataset& dataset, int64_t label);

/// Returns the indices of all other images: int64 (M), ascending, possibly empty. Throws like
/// indices_of_class.
at::Tensor indices_of_other_classes(const ImageDataset& dataset, int64_t label);

/// Returns the number of images of each class, `classes` entries.
std::vector<int64_t> class_counts(const ImageDataset& dataset);

/// Returns the mean and the population standard deviation of all pixels divided by 255, computed in
/// float64. Throws TensorError if there are no pixels.
Normalization pixel_statistics(const ImageDataset& dataset);

/// Returns the images at `indices` (int64 (B)), normalized and flattened: (B, H * W) of `dtype`
/// (float32, float64, float16 or bfloat16) on the CPU, gathered in one pass without a tensor for
/// each image. float32 values equal those of torchvision's ToTensor and Normalize bit for bit; the
/// half types are rounded from them. Throws ArgumentError for a deviation of 0, NaN or Inf, and
/// TensorError for indices out of range.
at::Tensor batch_inputs(const ImageDataset& dataset, const at::Tensor& indices,
                        const Normalization& normalization, at::ScalarType dtype = at::kFloat);

/// Does the same for images that are not part of a data set: uint8 (B, H, W), or one image of
/// (H, W), which gives (1, H * W).
at::Tensor normalize_images(const at::Tensor& images, const Normalization& normalization,
                            at::ScalarType dtype = at::kFloat);

/// Returns the labels at `indices` (int64 (B)): int64 (B).
at::Tensor batch_labels(const ImageDataset& dataset, const at::Tensor& indices);

}  // namespace lowrank::app
