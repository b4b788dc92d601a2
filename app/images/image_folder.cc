#include "app/images/image_folder.h"

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <lowrank/error.h>

#include <algorithm>
#include <initializer_list>

#include "app/images/resize.h"

namespace lowrank::app {
namespace {

namespace fs = std::filesystem;

/// Returns the entries of a folder that are not hidden, ordered by name.
std::vector<fs::path> entries_of(const fs::path& folder) {
  std::vector<fs::path> entries;
  try {
    for (const auto& entry : fs::directory_iterator(folder)) {
      if (!entry.path().filename().string().starts_with('.')) entries.push_back(entry.path());
    }
  } catch (const fs::filesystem_error& error) {
    fail<FileError>("data", fmt::format("the folder \"{}\" must be readable", folder.string()),
                    fmt::format("\"{}\"", error.code().message()));
  }
  std::sort(entries.begin(), entries.end());
  return entries;
}

/// Returns the first of these folders that there is; an empty path if there is none.
fs::path first_folder(const fs::path& folder, std::initializer_list<const char*> names) {
  std::error_code none;
  for (const char* name : names) {
    if (fs::is_directory(folder / name, none)) return folder / name;
  }
  return {};
}

fs::path test_half(const fs::path& folder) {
  return first_folder(folder, {"test", "testing", "val", "valid", "validation"});
}

/// Returns the folder of the training half; empty if the folder is not divided. A folder "train"
/// with images, beside "bus" and "car", is a class.
fs::path training_half(const fs::path& folder) {
  const auto half = first_folder(folder, {"train", "training"});
  if (half.empty() || has_folders(half) || !test_half(folder).empty()) return half;
  return {};
}

/// Returns the folder with the classes of one half: the folder itself if it is not divided.
fs::path half_of(const fs::path& folder, Split split) {
  const auto training = training_half(folder);
  if (training.empty()) return folder;
  if (split == Split::kTrain) return training;
  if (const auto test = test_half(folder); !test.empty()) return test;
  fail<FileError>("data",
                  fmt::format("\"{}\" must hold a folder test or val beside {}", folder.string(),
                              training.filename().string()),
                  "none", "Name the folder of images itself with --data.");
}

struct ImageEntry {
  fs::path file;
  std::string label;
};

std::vector<ImageEntry> images_in(const fs::path& folder, const ImageFolderOptions& options) {
  std::vector<ImageEntry> images;
  for (const auto& of_class : entries_of(folder)) {
    if (!fs::is_directory(of_class)) {
      fail<FileError>("data",
                      fmt::format("\"{}\" must hold a folder for each class, and nothing else",
                                  folder.string()),
                      fmt::format("\"{}\"", of_class.filename().string()));
    }
    const auto name = of_class.filename().string();
    const auto& known = options.class_names;
    if (!known.empty() && std::find(known.begin(), known.end(), name) == known.end()) {
      fail<FileError>("data",
                      fmt::format("the folders in \"{}\" must be classes that the model knows",
                                  folder.string()),
                      fmt::format("\"{}\", which is none of {}", name, list_names(known)),
                      did_you_mean(name, known));
    }
    const auto files = entries_of(of_class);
    if (files.empty()) {
      fail<FileError>("data", fmt::format("\"{}\" must hold images", of_class.string()), "none");
    }
    for (const auto& file : files) images.push_back({file, name});
  }
  if (images.empty()) {
    fail<FileError>(
        "data", fmt::format("\"{}\" must hold a folder of images for each class", folder.string()),
        "nothing");
  }
  return images;
}

/// Gathers images of one size, gray until the first that has three channels.
class ImageStack {
 public:
  ImageStack(size_t count, const ImageFolderOptions& options) : count_(count), options_(options) {}

  void add(const ImageEntry& entry) {
    auto image = read_image(entry.file, options_.channels);
    if (options_.size.size() == 2) {
      image = resize_image(image, options_.size[0], options_.size[1]);
    }
    if (!stack_.defined()) begin(image, entry.file);
    if (image.size(-2) != stack_.size(2) || image.size(-1) != stack_.size(3)) {
      fail<FileError>(
          "data",
          fmt::format("all images must have the {} x {} pixels of \"{}\"", stack_.size(2),
                      stack_.size(3), first_.string()),
          fmt::format("{} x {} in \"{}\"", image.size(-2), image.size(-1), entry.file.string()),
          "Pass --resize HEIGHT,WIDTH.");
    }
    if (image.dim() == 3 && stack_.size(1) == 1) widen();
    stack_[added_++].copy_(image);  // a gray image fills all channels
  }

  at::Tensor images() const { return stack_.size(1) == 1 ? stack_.squeeze(1) : stack_; }

 private:
  void begin(const at::Tensor& image, const fs::path& file) {
    first_ = file;
    stack_ = make(image.dim() == 3 ? 3 : 1, image.size(-2), image.size(-1));
  }

  void widen() {
    const auto gray = stack_;
    stack_ = make(3, gray.size(2), gray.size(3));
    stack_.copy_(gray);
  }

  at::Tensor make(int64_t channels, int64_t height, int64_t width) const {
    const auto count = static_cast<int64_t>(count_);
    try {
      return at::empty({count, channels, height, width}, at::kByte);
    } catch (const std::exception&) {
      fail<FileError>("data", "the images must fit into memory",
                      fmt::format("{} images of {} x {} x {}", count, channels, height, width),
                      "Pass a smaller --resize HEIGHT,WIDTH.");
    }
  }

  size_t count_;
  const ImageFolderOptions& options_;
  fs::path first_;
  at::Tensor stack_;
  int64_t added_ = 0;
};

}  // namespace

bool has_folders(const fs::path& folder) {
  std::error_code none;
  for (const auto& entry : fs::directory_iterator(folder, none)) {
    if (entry.is_directory(none) && !entry.path().filename().string().starts_with('.')) return true;
  }
  return false;
}

std::vector<std::string> class_folders(const fs::path& folder) {
  std::vector<std::string> names;
  const auto training = training_half(folder);
  if (training.empty()) return names;
  for (const auto& entry : entries_of(training)) names.push_back(entry.filename().string());
  return names;
}

bool is_divided_image_folder(const fs::path& folder) { return !training_half(folder).empty(); }

ImageFolder read_image_folder(const fs::path& folder, Split split,
                              const ImageFolderOptions& options) {
  const auto entries = images_in(half_of(folder, split), options);
  ImageStack stack(entries.size(), options);
  ImageFolder read;
  for (const auto& entry : entries) {
    stack.add(entry);
    read.classes.push_back(entry.label);
  }
  read.images = stack.images();
  return read;
}

std::vector<fs::path> files_below(const fs::path& folder) {
  std::vector<fs::path> files;
  std::error_code none;
  for (const auto& entry : fs::recursive_directory_iterator(folder, none)) {
    if (entry.is_regular_file(none)) files.push_back(entry.path());
  }
  return files;
}

}  // namespace lowrank::app
