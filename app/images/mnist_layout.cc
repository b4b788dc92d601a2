#include "app/images/mnist_layout.h"

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <lowrank/error.h>
#include <lowrank/io/sha256.h>

#include <algorithm>
#include <vector>

#include "app/images/idx.h"
#include "app/images/input_file.h"

namespace lowrank::app {
namespace {

constexpr const char* kData = "data";
constexpr int64_t kClasses = 10;

at::Tensor read_part(const std::filesystem::path& folder, const std::string& name,
                     int64_t dimensions, const char* what) {
  const std::filesystem::path path = find_layout_file(folder, name);
  if (path.empty()) {
    fail<FileError>(kData,
                    fmt::format("{} must hold {} (uncompressed or .gz)", folder.string(), name),
                    "a folder without it");
  }
  at::Tensor values = read_idx(path);
  if (values.dim() != dimensions) {
    fail<FileError>(kData,
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
  fail<FileError>(kData, fmt::format("the labels of {} must be 0 to {}", where, kClasses - 1),
                  fmt::format("{} at position {}", *wrong, wrong - values));
}

}  // namespace

std::string layout_prefix(Split split) { return split == Split::kTrain ? "train" : "t10k"; }

bool has_layout(const std::filesystem::path& folder) {
  for (const Split split : {Split::kTrain, Split::kTest}) {
    for (const char* name : {"-images-idx3-ubyte", "-labels-idx1-ubyte"}) {
      if (!find_layout_file(folder, layout_prefix(split) + name).empty()) return true;
    }
  }
  return false;
}

std::filesystem::path find_layout_file(const std::filesystem::path& folder,
                                       const std::string& name) {
  std::string dotted = name;
  const size_t dash = dotted.rfind("-idx");
  if (dash != std::string::npos) dotted[dash] = '.';
  for (const auto& spelling : {name, name + ".gz", dotted, dotted + ".gz"}) {
    std::error_code ignored;
    if (std::filesystem::exists(folder / spelling, ignored)) return folder / spelling;
  }
  return {};
}

LabelledImages read_layout(const std::filesystem::path& folder, Split split) {
  const std::string half = layout_prefix(split);
  const at::Tensor labels = read_part(folder, half + "-labels-idx1-ubyte", 1, "labels");
  const at::Tensor images = read_part(folder, half + "-images-idx3-ubyte", 3, "images");
  const std::string where = (folder / half).string();
  if (images.size(0) != labels.size(0)) {
    fail<FileError>(kData, fmt::format("{} must have one label per image", where),
                    fmt::format("{} images and {} labels", images.size(0), labels.size(0)));
  }
  if (images.numel() == 0) {
    fail<FileError>(
        kData, fmt::format("{} must hold at least one image with one pixel", where),
        fmt::format("{} images of {} x {}", images.size(0), images.size(1), images.size(2)));
  }
  check_labels(labels, where);
  return {images, labels.to(at::kLong)};
}

std::string content_sha256(const std::filesystem::path& path, uint64_t most_bytes) {
  InputFile file(path, "data");
  std::vector<char> chunk(size_t{1} << 20);
  Sha256 digest;
  for (uint64_t left = most_bytes + 1; left > 0;) {
    const size_t got = file.read(chunk.data(), std::min<uint64_t>(left, chunk.size()));
    if (got == 0) break;
    digest.update(chunk.data(), got);
    left -= got;
  }
  return digest.hex();
}

}  // namespace lowrank::app
