#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "app/data/dataset.h"

namespace lowrank::app {

/// Where examples come from, and how they are read.
struct DataSource {
  /// "mnist", which is the set that `lowrank data fetch mnist` puts into the cache (its checksums
  /// are checked at each load); a folder in MNIST's layout (images/mnist_layout.h); a folder with a
  /// folder of images for each class (images/image_folder.h), or with two of these as train and
  /// test; a .csv, .npy or .safetensors file.
  std::string data = "mnist";
  /// The .npy file of the labels, for inputs in a .npy file.
  std::string labels = {};
  /// The column of a .csv file that holds the labels.
  std::string label_column = "label";
  /// Columns of a .csv file that are no inputs. Where `columns` are known, only these are read.
  std::vector<std::string> dropped_columns = {};
  /// Whether the labels are numbers to predict, even if they are whole.
  bool predicts_numbers = false;
  /// Whether the labels are classes, even if they are stored as floating-point numbers.
  bool needs_classes = false;
  /// Whether files without labels will do. Where no loss says otherwise, they are for classes.
  bool may_lack_labels = false;
  /// 1 for gray images, 3 for RGB; 0: as the files are.
  int64_t channels = 0;
  /// The height and width that images are resized to; empty: they must all be of one size.
  std::vector<int64_t> resize = {};
  /// The classes and columns that a model knows. Others are refused; empty: those of the data.
  std::vector<std::string> class_names = {};
  std::vector<std::string> columns = {};
};

/// Loads one half of a data set. Files, and folders that are not divided, are both halves. The
/// order is that of the files; images are ordered by class, then by file name.
///
/// Labels that are whole numbers of at least 0 are classes, of which there are as many as the
/// largest plus 1, and at least 2; names are classes in alphabetical order; other numbers are to be
/// predicted. In .npy files integer inputs of one byte are pixels.
///
/// Throws ArgumentError for a source that is none of these or lacks something, and FileError,
/// naming the file and the place in it, for content that is damaged, does not fit together or is
/// not finite.
Dataset load_dataset(const DataSource& source, Split split);
Dataset load_dataset(const std::string& data, Split split);

/// Returns the files of such a data set, so that no output takes the place of one.
std::vector<std::filesystem::path> files_of(const DataSource& source);

/// Returns whether this is MNIST, or a folder in its layout.
bool is_in_mnist_layout(const DataSource& source);

/// Returns whether the data set has a training and a test half.
bool is_divided(const DataSource& source);

/// Returns whether there is something at the place that the source names.
bool exists(const DataSource& source);
/// Throws FileError if there is not.
void require_exists(const DataSource& source);

}  // namespace lowrank::app
