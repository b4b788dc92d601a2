#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <vector>

namespace lowrank::app {

/// Gray images with a class each, in memory as they lie in the file.
struct ImageDataset {
  at::Tensor images;  // uint8 (N, H, W), contiguous, on the CPU
  at::Tensor labels;  // int64 (N), each in [0, classes)
  std::string name;   // "mnist", or the name of the folder it came from
  int64_t classes = 10;

  int64_t size() const { return labels.defined() ? labels.size(0) : 0; }
};

/// Turns a pixel p of 0 to 255 into (p / 255 - mean) / deviation. The defaults are MNIST's.
struct Normalization {
  double mean = 0.1307;
  double deviation = 0.3081;  // finite and not 0
};

/// Throws ArgumentError for a mean or deviation that is not finite in float32, and for a deviation
/// whose inverse is not, as that of 0.
void check(const Normalization& normalization);

enum class Split { kTrain, kTest };

/// Loads one half of a set of images with ten classes. "mnist" is the set that `lowrank data fetch
/// mnist` puts into the cache (its checksums are checked at each load); anything else is a folder
/// in MNIST's layout: train-images-idx3-ubyte, train-labels-idx1-ubyte, and the same with t10k for
/// the test half, each plain or gzip, also spelt train-images.idx3-ubyte.
///
/// Throws ArgumentError for what is neither, and FileError, naming the file, where one is missing,
/// damaged, mislabelled (labels given as images) or has a wrong checksum, where the numbers of
/// images and labels differ or are 0, or where a label is not in 0..9.
ImageDataset load_image_dataset(const std::string& name_or_folder, Split split);

/// The images and labels at `indices` (int64 (M), each in [0, N)), copied.
ImageDataset select(const ImageDataset& dataset, const at::Tensor& indices);

/// Where the images of class `label` are: int64 (M), ascending, M > 0. Throws ArgumentError for a
/// class the set does not have or has no examples of.
at::Tensor indices_of_class(const ImageDataset& dataset, int64_t label);

/// Where all others are: int64 (M), ascending, possibly empty. Throws as indices_of_class does.
at::Tensor indices_of_other_classes(const ImageDataset& dataset, int64_t label);

/// The number of images of each class; `classes` entries.
std::vector<int64_t> class_counts(const ImageDataset& dataset);

/// Mean and (population) standard deviation of all pixels divided by 255, in float64: what
/// Normalization takes for this set. Throws TensorError where there is no pixel.
Normalization pixel_statistics(const ImageDataset& dataset);

/// The images at `indices` (int64 (B)), normalized and flattened: (B, H * W) of `dtype` (float32,
/// float64, float16 or bfloat16) on the CPU, gathered in one pass without a tensor an image.
/// float32 values equal torchvision's ToTensor and Normalize bit for bit; the half types are
/// rounded from them. Throws ArgumentError for a deviation of 0, NaN or Inf, TensorError for
/// indices out of range.
at::Tensor batch_inputs(const ImageDataset& dataset, const at::Tensor& indices,
                        const Normalization& normalization, at::ScalarType dtype = at::kFloat);

/// The same for images outside of a set: uint8 (B, H, W), or one of (H, W), which gives (1, H * W).
at::Tensor normalize_images(const at::Tensor& images, const Normalization& normalization,
                            at::ScalarType dtype = at::kFloat);

/// The labels at `indices` (int64 (B)): int64 (B).
at::Tensor batch_labels(const ImageDataset& dataset, const at::Tensor& indices);

}  // namespace lowrank::app
