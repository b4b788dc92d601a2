#include "app/data/array_files.h"

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <lowrank/error.h>
#include <lowrank/io/npy.h>
#include <lowrank/io/safetensors.h>

#include "app/data/labels.h"

namespace lowrank::app {
namespace {

struct Arrays {
  at::Tensor inputs, labels;
};

Arrays read_npy_pair(const std::filesystem::path& file, const DataSource& source) {
  if (source.labels.empty() && source.may_lack_labels) return {read_npy(file), {}};
  if (source.labels.empty()) {
    fail<ArgumentError>(
        "data",
        fmt::format("--labels must name the .npy file with the labels of \"{}\"", file.string()),
        "none");
  }
  return {read_npy(file), read_npy(source.labels)};
}

Arrays read_tensors(const std::filesystem::path& file, const DataSource& source) {
  const auto tensors = SafetensorsFile::open(file);
  const bool has_labels = tensors.contains("labels");
  if (!tensors.contains("inputs") || !(has_labels || source.may_lack_labels)) {
    fail<FileError>(
        "data",
        fmt::format("\"{}\" must hold the tensors \"inputs\" and \"labels\"", file.string()),
        list_names(tensors.names()));
  }
  return {tensors.tensor("inputs"), has_labels ? tensors.tensor("labels") : at::Tensor()};
}

bool are_channels(int64_t size) { return size == 1 || size == 3; }

/// Images as (N, H, W) or (N, C, H, W).
at::Tensor as_images(const at::Tensor& inputs) {
  const bool channels_last =
      inputs.dim() == 4 && are_channels(inputs.size(3)) && !are_channels(inputs.size(1));
  const auto planes = channels_last ? inputs.permute({0, 3, 1, 2}) : inputs;
  const bool is_gray = planes.dim() == 4 && planes.size(1) == 1;
  return (is_gray ? planes.squeeze(1) : planes).contiguous();
}

at::Tensor as_numbers(const at::Tensor& inputs, const std::string& where) {
  if (inputs.is_floating_point()) {
    if (!at::isfinite(inputs.to(at::kFloat)).all().item<bool>()) {
      fail<FileError>("data", fmt::format("the inputs in {} must be finite as float32", where),
                      "NaN, Inf or larger numbers");
    }
    return inputs.to(inputs.scalar_type() == at::kDouble ? at::kDouble : at::kFloat).contiguous();
  }
  constexpr int64_t kExact = int64_t{1} << 24;  // float32 holds these whole numbers exactly
  const auto whole = inputs.to(at::kLong);
  if (whole.numel() > 0) {
    const auto least = whole.min().item<int64_t>(), most = whole.max().item<int64_t>();
    if (least < -kExact || most > kExact) {
      fail<FileError>("data",
                      fmt::format("whole numbers in {} must be {} to {}", where, -kExact, kExact),
                      fmt::format("{}", most > kExact ? most : least));
    }
  }
  return whole.to(at::kFloat).contiguous();
}

}  // namespace

Dataset read_arrays(const std::filesystem::path& file, const DataSource& source) {
  const bool is_npy = file.extension() == ".npy";
  const auto arrays = is_npy ? read_npy_pair(file, source) : read_tensors(file, source);
  const auto where = fmt::format("\"{}\"", file.string());
  const auto& inputs = arrays.inputs;
  if (inputs.dim() < 2 || inputs.numel() == 0) {
    fail<FileError>("data", fmt::format("the inputs in {} must have shape (N, ...)", where),
                    fmt::format("({})", fmt::join(inputs.sizes(), ", ")));
  }
  const bool are_images =
      inputs.scalar_type() == at::kByte && (inputs.dim() == 3 || inputs.dim() == 4);
  Dataset dataset;
  dataset.name = file.filename().string();
  dataset.inputs = are_images ? as_images(inputs) : as_numbers(inputs, where);
  dataset.holds_whole_numbers = !are_images && !inputs.is_floating_point();
  if (!arrays.labels.defined()) {
    set_no_labels(dataset, source);
    return dataset;
  }
  set_labels(dataset, arrays.labels, source, is_npy ? fmt::format("\"{}\"", source.labels) : where);
  return dataset;
}

}  // namespace lowrank::app
