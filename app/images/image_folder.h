#pragma once

#include <ATen/core/Tensor.h>

#include <filesystem>
#include <string>
#include <vector>

#include "app/images/image_file.h"
#include "app/images/split.h"

namespace lowrank::app {

/// How the images of a folder are read.
struct ImageFolderOptions {
  ImageChannels channels = ImageChannels::kAny;  ///< kAny: three if any file has three
  /// Height and width that all images are resized to; empty: they must be of one size.
  std::vector<int64_t> size = {};
  /// The classes that a folder may name; empty: those that there are.
  std::vector<std::string> class_names = {};
};

struct ImageFolder {
  at::Tensor images;                 // uint8 (N, H, W), or (N, 3, H, W)
  std::vector<std::string> classes;  // of each image: the name of its folder
};

/// Returns whether a folder holds folders, as far as it can be read.
bool has_folders(const std::filesystem::path& folder);

/// Returns the names of the classes in the training half of a divided folder, in their order; none
/// if it is not divided.
std::vector<std::string> class_folders(const std::filesystem::path& folder);

/// Returns whether a folder is divided into train and another half.
bool is_divided_image_folder(const std::filesystem::path& folder);

/// Reads a folder that holds a folder of images (PNG, JPEG, PGM) for each class, in the order of
/// their names, or such folders as train (or training) and test (or testing, val, valid,
/// validation: the first of them that there is). Hidden files are left out.
///
/// Throws FileError, naming the file, for what is no image, for images of different sizes, for a
/// class without images or that is not among the given ones, and if the images would not fit into
/// memory.
ImageFolder read_image_folder(const std::filesystem::path& folder, Split split,
                              const ImageFolderOptions& options);

/// Returns all files below a folder.
std::vector<std::filesystem::path> files_below(const std::filesystem::path& folder);

}  // namespace lowrank::app
