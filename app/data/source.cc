#include "app/data/source.h"

#include <ATen/ATen.h>
#include <fmt/ranges.h>
#include <lowrank/error.h>

#include <algorithm>
#include <system_error>

#include "app/data/array_files.h"
#include "app/data/csv_file.h"
#include "app/data/labels.h"
#include "app/images/image_folder.h"
#include "app/images/mnist_cache.h"
#include "app/images/mnist_layout.h"
#include "app/images/resize.h"

namespace lowrank::app {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kMostSide = 1 << 14;

void check_image_options(const DataSource& source) {
  if (source.channels != 0 && source.channels != 1 && source.channels != 3) {
    fail<ArgumentError>("data", "--channels must be 1 or 3", fmt::format("{}", source.channels));
  }
  const auto& size = source.resize;
  const auto fits = [](int64_t side) { return side >= 1 && side <= kMostSide; };
  if (size.empty() || (size.size() == 2 && fits(size[0]) && fits(size[1]))) return;
  fail<ArgumentError>("data",
                      fmt::format("--resize must be a height and a width of 1 to {}", kMostSide),
                      fmt::format("{}", fmt::join(size, ",")),
                      size.size() == 1 ? fmt::format("For squares pass --resize {0},{0}.", size[0])
                                       : std::string());
}

ImageChannels channels_of(const DataSource& source) {
  return source.channels == 3   ? ImageChannels::kRgb
         : source.channels == 1 ? ImageChannels::kGray
                                : ImageChannels::kAny;
}

/// Gives images that were read otherwise the channels and the size that the source asks for.
void apply_image_options(Dataset& dataset, const DataSource& source) {
  if (!dataset.holds_images()) {
    if (source.resize.empty() && source.channels == 0) return;
    fail<ArgumentError>("data", "--resize and --channels must be for images",
                        fmt::format("{} with {}", dataset.name, dataset.shape_text()));
  }
  const auto now = dataset.channels();
  if (source.channels != 0 && now != 1 && now != 3) {
    fail<FileError>("data", "images whose --channels are changed must have 1 or 3",
                    fmt::format("{} with {}", dataset.name, dataset.shape_text()));
  }
  if (source.channels == 3 && now == 1) {
    dataset.inputs = dataset.inputs.unsqueeze(1).expand({-1, 3, -1, -1}).contiguous();
  } else if (source.channels == 1 && now == 3) {
    dataset.inputs = luminance(dataset.inputs.permute({0, 2, 3, 1})).contiguous();
  }
  const auto& size = source.resize;
  if (size.empty() || (dataset.height() == size[0] && dataset.width() == size[1])) return;
  std::vector<at::Tensor> images;
  for (int64_t i = 0; i < dataset.size(); ++i) {
    images.push_back(resize_image(dataset.inputs[i], size[0], size[1]));
  }
  dataset.inputs = at::stack(images);
}

Dataset from_layout(const fs::path& folder, Split split) {
  const auto read = read_layout(folder, split);
  Dataset dataset;
  dataset.inputs = read.images;
  dataset.labels = read.labels;
  return dataset;
}

Dataset from_image_folder(const fs::path& folder, const DataSource& source, Split split) {
  // The test half may lack classes of the training half, whose numbers must not move.
  const auto known = source.class_names.empty() && split == Split::kTest ? class_folders(folder)
                                                                         : source.class_names;
  auto read = read_image_folder(
      folder, split,
      {.channels = channels_of(source), .size = source.resize, .class_names = known});
  Dataset dataset;
  dataset.inputs = std::move(read.images);
  auto classes = known;
  const auto is_number = [](const std::string& name) {
    return name.find_first_not_of("0123456789") == std::string::npos;
  };
  const bool are_numbers = std::all_of(known.begin(), known.end(), is_number);
  if (source.class_names.empty() && are_numbers) classes.clear();
  if (classes.empty() && !std::all_of(read.classes.begin(), read.classes.end(), is_number)) {
    classes = read.classes;  // in order of their names
    classes.erase(std::unique(classes.begin(), classes.end()), classes.end());
  }
  set_labels(dataset, read.classes, classes, source, fmt::format("\"{}\"", folder.string()));
  return dataset;
}

Dataset from_folder(const fs::path& folder, const DataSource& source, Split split) {
  std::error_code none;
  const bool is_layout = has_layout(folder);
  if (!is_layout && !has_folders(folder)) {
    fail<FileError>("data",
                    fmt::format("\"{}\" must hold a folder of images for each class, or files in "
                                "MNIST's layout",
                                folder.string()),
                    "neither");
  }
  auto dataset = is_layout ? from_layout(folder, split) : from_image_folder(folder, source, split);
  dataset.name = fs::weakly_canonical(folder, none).filename().string();
  return dataset;
}

Dataset from_file(const fs::path& file, const DataSource& source) {
  const auto extension = file.extension();
  if (extension == ".csv") return read_csv(file, source);
  if (extension == ".npy" || extension == ".safetensors") return read_arrays(file, source);
  fail<ArgumentError>("data", "a file of examples must be .csv, .npy or .safetensors",
                      fmt::format("\"{}\"", file.string()));
}

void require_no_labels(const DataSource& source) {
  if (source.labels.empty() || fs::path(source.data).extension() == ".npy") return;
  fail<ArgumentError>("data", "--labels must be given for inputs in a .npy file alone",
                      fmt::format("\"{}\"", source.data));
}

Dataset load(const DataSource& source, Split split) {
  require_no_labels(source);
  if (source.data == "mnist") {
    check_cached_mnist(split);
    auto dataset = from_layout(data_cache() / "mnist", split);
    dataset.name = "mnist";
    return dataset;
  }
  std::error_code none;
  if (fs::is_directory(source.data, none)) return from_folder(source.data, source, split);
  require_exists(source);
  return from_file(source.data, source);
}

void require_known_classes(const Dataset& dataset, const DataSource& source) {
  if (source.class_names.empty() || !dataset.class_names.empty() || dataset.classes == 0) return;
  const auto known = static_cast<int64_t>(source.class_names.size());
  if (dataset.labels.max().item<int64_t>() < known) return;
  fail<FileError>("data",
                  fmt::format("the labels of {} must be the numbers of the model's {} classes",
                              dataset.name, known),
                  fmt::format("{}", dataset.labels.max().item<int64_t>()));
}

}  // namespace

Dataset load_dataset(const DataSource& source, Split split) {
  check_image_options(source);
  auto dataset = load(source, split);
  apply_image_options(dataset, source);
  require_known_classes(dataset, source);
  if (dataset.class_names.empty()) dataset.class_names = source.class_names;
  return dataset;
}

Dataset load_dataset(const std::string& data, Split split) {
  return load_dataset(DataSource{.data = data}, split);
}

std::vector<fs::path> files_of(const DataSource& source) {
  std::error_code none;
  const fs::path place = source.data == "mnist" ? data_cache() / "mnist" : fs::path(source.data);
  if (fs::is_directory(place, none)) return files_below(place);
  std::vector<fs::path> files = {place};
  if (!source.labels.empty()) files.emplace_back(source.labels);
  return files;
}

bool is_in_mnist_layout(const DataSource& source) {
  return source.data == "mnist" || has_layout(source.data);
}

bool is_divided(const DataSource& source) {
  return is_in_mnist_layout(source) || is_divided_image_folder(source.data);
}

bool exists(const DataSource& source) {
  std::error_code none;
  return source.data == "mnist" || fs::exists(source.data, none);
}

void require_exists(const DataSource& source) {
  if (exists(source)) return;
  fail<FileError>(
      "data",
      "a data set must be \"mnist\", a folder of images, or a .csv, .npy or .safetensors file",
      fmt::format("\"{}\", where there is nothing", source.data),
      did_you_mean(source.data, {"mnist"}));
}

}  // namespace lowrank::app
