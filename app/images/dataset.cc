#include "app/images/dataset.h"

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <lowrank/error.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <filesystem>

#include "app/images/idx.h"
#include "app/images/layout.h"
#include "app/images/mnist.h"

namespace lowrank::app {
namespace {

namespace fs = std::filesystem;
constexpr const char* kDataset = "data";
constexpr int64_t kClasses = 10;

std::string prefix(Split split) { return split == Split::kTrain ? "train" : "t10k"; }

at::Tensor read_part(const fs::path& folder, const std::string& name, int64_t dimensions,
                     const char* what) {
  const fs::path path = find_layout_file(folder, name);
  if (path.empty()) {
    fail<FileError>(kDataset,
                    fmt::format("{} must hold {} (uncompressed or .gz)", folder.string(), name),
                    "a folder without it");
  }
  at::Tensor values = read_idx(path);
  if (values.dim() != dimensions) {
    fail<FileError>(kDataset,
                    fmt::format("{} must hold {} ({} dimension{})", path.string(), what, dimensions,
                                dimensions == 1 ? "" : "s"),
                    fmt::format("{} dimension{}", values.dim(), values.dim() == 1 ? "" : "s"),
                    "Are image and label files swapped?");
  }
  return values;
}

void check_labels(const at::Tensor& labels, const std::string& where) {
  const auto* values = labels.data_ptr<uint8_t>();
  const auto* end = values + labels.numel();
  const auto* wrong = std::find_if(values, end, [](uint8_t label) { return label >= kClasses; });
  if (wrong == end) return;
  fail<FileError>(kDataset, fmt::format("the labels of {} must be 0 to {}", where, kClasses - 1),
                  fmt::format("{} at position {}", *wrong, wrong - values));
}

ImageDataset load_folder(const fs::path& folder, Split split, const std::string& name) {
  const std::string half = prefix(split);
  const at::Tensor labels = read_part(folder, half + "-labels-idx1-ubyte", 1, "labels");
  const at::Tensor images = read_part(folder, half + "-images-idx3-ubyte", 3, "images");
  const std::string where = (folder / half).string();
  if (images.size(0) != labels.size(0)) {
    fail<FileError>(kDataset, fmt::format("{} must have one label per image", where),
                    fmt::format("{} images and {} labels", images.size(0), labels.size(0)));
  }
  if (images.numel() == 0) {
    fail<FileError>(
        kDataset, fmt::format("{} must hold at least one image with one pixel", where),
        fmt::format("{} images of {} x {}", images.size(0), images.size(1), images.size(2)));
  }
  check_labels(labels, where);
  return {images, labels.to(at::kLong), name, kClasses};
}

/// Anyone could have written to the cache, so a set that is loaded by name is checked against the
/// published checksums.
void check_cached_mnist(const fs::path& folder, Split split) {
  for (const auto& file : mnist_files()) {
    if (!file.name.starts_with(prefix(split))) continue;
    const fs::path path = find_layout_file(folder, file.name);
    if (path.empty()) {
      fail<FileError>(kDataset,
                      fmt::format("the cache {} must hold {}", folder.string(), file.name),
                      "a folder without it", "Run `lowrank data fetch mnist` first.");
    }
    const std::string sum = content_sha256(path, file.bytes);
    if (sum != file.sha256) {
      fail<FileError>(kDataset,
                      fmt::format("{} must have the SHA-256 {}", path.string(), file.sha256), sum,
                      "Run `lowrank data fetch mnist` to replace it.");
    }
  }
}

void check_label(const ImageDataset& dataset, int64_t label) {
  if (label < 0 || label >= dataset.classes) {
    fail<ArgumentError>(
        kDataset, fmt::format("a class of {} must be 0 to {}", dataset.name, dataset.classes - 1),
        fmt::format("{}", label));
  }
  if (class_counts(dataset)[static_cast<size_t>(label)] == 0) {
    fail<ArgumentError>(
        kDataset, fmt::format("class {} must have examples in {}", label, dataset.name), "none");
  }
}

}  // namespace

ImageDataset load_image_dataset(const std::string& name_or_folder, Split split) {
  if (name_or_folder == "mnist") {
    const fs::path folder = data_cache() / "mnist";
    check_cached_mnist(folder, split);
    return load_folder(folder, split, "mnist");
  }
  std::error_code ignored;
  const fs::path folder = name_or_folder;
  if (!fs::is_directory(folder, ignored)) {
    fail<ArgumentError>(kDataset, "a data set must be \"mnist\" or a folder in MNIST's layout",
                        fmt::format("\"{}\", which is not a folder", name_or_folder),
                        did_you_mean(name_or_folder, {"mnist"}));
  }
  const fs::path full = fs::weakly_canonical(folder, ignored);
  return load_folder(folder, split, full.filename().string());
}

std::vector<fs::path> files_of(const std::string& name_or_folder) {
  const fs::path folder =
      name_or_folder == "mnist" ? data_cache() / "mnist" : fs::path(name_or_folder);
  std::vector<fs::path> files;
  std::error_code none;
  for (const auto& entry : fs::directory_iterator(folder, none)) files.push_back(entry.path());
  return files;
}

at::Tensor indices_of_class(const ImageDataset& dataset, int64_t label) {
  check_label(dataset, label);
  return dataset.labels.eq(label).nonzero().flatten();
}

at::Tensor indices_of_other_classes(const ImageDataset& dataset, int64_t label) {
  check_label(dataset, label);
  return dataset.labels.ne(label).nonzero().flatten();
}

std::vector<int64_t> class_counts(const ImageDataset& dataset) {
  std::vector<int64_t> counts(static_cast<size_t>(dataset.classes), 0);
  const at::Tensor labels = dataset.labels.contiguous();
  const auto* values = labels.data_ptr<int64_t>();
  for (int64_t i = 0; i < dataset.size(); ++i) ++counts.at(static_cast<size_t>(values[i]));
  return counts;
}

Normalization pixel_statistics(const ImageDataset& dataset) {
  if (!dataset.images.defined() || dataset.images.numel() == 0) {
    fail<TensorError>(kDataset, "pixel statistics need at least one pixel", "none");
  }
  // A histogram makes both sums exact, whatever the number of pixels.
  std::array<int64_t, 256> histogram{};
  const at::Tensor images = dataset.images.contiguous();
  const auto* pixels = images.data_ptr<uint8_t>();
  for (int64_t i = 0; i < images.numel(); ++i) ++histogram[pixels[i]];
  const auto total = static_cast<double>(images.numel());
  double mean = 0;
  for (size_t p = 0; p < 256; ++p)
    mean += static_cast<double>(p) * static_cast<double>(histogram[p]);
  mean /= total;
  double variance = 0;
  for (size_t p = 0; p < 256; ++p) {
    const double distance = static_cast<double>(p) - mean;
    variance += distance * distance * static_cast<double>(histogram[p]);
  }
  return {mean / 255, std::sqrt(variance / total) / 255};
}

}  // namespace lowrank::app
