#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "app/images/split.h"

namespace lowrank::app {

/// Examples, each with a class or with numbers to predict, in memory as they are stored.
struct Dataset {
  /// Contiguous, on the CPU: uint8 images (N, H, W), gray, or (N, C, H, W), else float32 or float64
  /// numbers (N, ...).
  at::Tensor inputs;
  /// int64 (N), each in [0, classes); without classes the float32 or float64 numbers (N, ...) that
  /// the model is to predict.
  at::Tensor labels;
  std::string name;      // "mnist", or the name of the file or folder it came from
  int64_t classes = 10;  // 0: none, but numbers to predict
  /// Whether the examples came with labels; if not, those above are zeros that mean nothing.
  bool has_labels = true;
  /// Whether the inputs were whole numbers in their file, like token ids.
  bool holds_whole_numbers = false;
  /// What the classes are called, in their order; empty if they are numbered.
  std::vector<std::string> class_names = {};
  /// What the numbers of an example are called, in their order; empty if they have no names.
  std::vector<std::string> columns = {};
  /// What the labels are called; empty if they have no name.
  std::string label_column = {};

  int64_t size() const { return labels.defined() ? labels.size(0) : 0; }
  bool holds_images() const;
  /// Channels, height and width of images; otherwise zeros.
  int64_t channels() const;
  int64_t height() const;
  int64_t width() const;
  /// How many numbers an example has.
  int64_t values() const;
  /// "28 x 28", "3 x 32 x 32" or "13 numbers".
  std::string shape_text() const;
};

/// Maps an input x to (x - mean) / deviation, where a pixel p in 0..255 stands for x = p / 255.
/// There is one mean and one deviation for all inputs, or one for each channel of images and for
/// each number of an example. The defaults are those of MNIST.
struct Normalization {
  std::vector<double> mean = {0.1307};
  std::vector<double> deviation = {0.3081};  // finite and not 0

  bool operator==(const Normalization&) const = default;
};

/// Throws ArgumentError if a mean, a deviation or the inverse of a deviation is not finite in
/// float32, which refuses a deviation of 0, too; and if there are none.
void check(const Normalization& normalization);
/// Throws ArgumentError unless there is one mean and one deviation, or one for each channel of the
/// images or for each number of an example.
void require_fit(const Normalization& normalization, const Dataset& dataset);

/// Returns a copy of the inputs and labels at `indices` (int64 (M), each in [0, N)).
Dataset select(const Dataset& dataset, const at::Tensor& indices);

/// Returns the indices of the examples of class `label`: int64 (M), ascending, M > 0. Throws
/// ArgumentError for a class that the set does not have or has no examples of.
at::Tensor indices_of_class(const Dataset& dataset, int64_t label);

/// Returns the indices of all other examples: int64 (M), ascending, possibly empty. Throws like
/// indices_of_class.
at::Tensor indices_of_other_classes(const Dataset& dataset, int64_t label);

/// Returns the number of examples of each class, `classes` entries.
std::vector<int64_t> class_counts(const Dataset& dataset);

/// Returns what a class is called: its name, or its number.
std::string class_name(const Dataset& dataset, int64_t label);

/// Returns the mean and the population standard deviation of the inputs, computed in float64: for
/// each channel of images (pixels divided by 255), for each column of examples (N, F), otherwise of
/// all numbers. A deviation of 0 is given as 1, since a constant cannot be scaled. Throws
/// TensorError if there are no numbers.
Normalization input_statistics(const Dataset& dataset);

/// Returns the inputs at `indices` (int64 (B)), normalized and flattened: (B, values()) of `dtype`
/// (float32, float64, float16 or bfloat16) on the CPU. Images are gathered in one pass without a
/// tensor for each image; their float32 values equal those of torchvision's ToTensor and Normalize
/// bit for bit, and the half types are rounded from them. Throws ArgumentError for a normalization
/// that check() or require_fit() refuses, and TensorError for indices out of range.
at::Tensor batch_inputs(const Dataset& dataset, const at::Tensor& indices,
                        const Normalization& normalization, at::ScalarType dtype = at::kFloat);

/// Does the same for images that are not part of a data set: uint8 (B, C, H, W), (B, H, W), or one
/// image of (H, W), which gives (1, H * W).
at::Tensor normalize_images(const at::Tensor& images, const Normalization& normalization,
                            at::ScalarType dtype = at::kFloat);

/// Returns the labels at `indices` (int64 (B)): int64 (B), or the numbers to predict (B, ...).
at::Tensor batch_labels(const Dataset& dataset, const at::Tensor& indices);

}  // namespace lowrank::app
