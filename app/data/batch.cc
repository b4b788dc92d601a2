#include <ATen/ATen.h>
#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>
#include <fmt/format.h>
#include <lowrank/error.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

#include "app/data/dataset.h"

namespace lowrank::app {
namespace {

constexpr const char* kBatch = "data";
/// The fewest pixels that are worth waking up a thread for.
constexpr int64_t kPixelsPerThread = int64_t{1} << 16;

/// Entry `i` of a list that has one entry for all, or one for each.
double entry(const std::vector<double>& list, size_t i) {
  return list.size() == 1 ? list.front() : list[i];
}

/// Returns what each pixel value of a channel is normalized to. Every step is rounded to `number`,
/// as in torchvision.
template <class number>
std::array<number, 256> normalized_values(const Normalization& normalization, size_t channel) {
  const auto mean = static_cast<number>(entry(normalization.mean, channel));
  const auto deviation = static_cast<number>(entry(normalization.deviation, channel));
  std::array<number, 256> values;
  for (size_t p = 0; p < 256; ++p) {
    const number scaled = static_cast<number>(p) / number{255};
    const number centred = scaled - mean;
    values[p] = centred / deviation;
  }
  return values;
}

template <class scalar>
std::array<scalar, 256> lookup_table(const Normalization& normalization, size_t channel) {
  if constexpr (std::is_same_v<scalar, double>) {
    return normalized_values<double>(normalization, channel);
  } else {
    const auto values = normalized_values<float>(normalization, channel);
    std::array<scalar, 256> table;
    std::transform(values.begin(), values.end(), table.begin(),
                   [](float value) { return static_cast<scalar>(value); });
    return table;
  }
}

/// Fills row i of `out` (rows, channels * pixels) with the normalized image that `source(i)` points
/// to.
template <class scalar, class Source>
void fill_rows(const at::Tensor& out, int64_t channels, const Normalization& normalization,
               const Source& source) {
  std::vector<std::array<scalar, 256>> tables;
  for (int64_t channel = 0; channel < channels; ++channel) {
    tables.push_back(lookup_table<scalar>(normalization, static_cast<size_t>(channel)));
  }
  const int64_t all = out.size(1), pixels = all / channels;
  auto* values = out.data_ptr<scalar>();
  const int64_t grain = std::max<int64_t>(1, kPixelsPerThread / std::max<int64_t>(1, all));
  at::parallel_for(0, out.size(0), grain, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const uint8_t* image = source(row);
      scalar* to = values + row * all;
      for (const auto& table : tables) {
        for (int64_t p = 0; p < pixels; ++p) to[p] = table[image[p]];
        image += pixels;
        to += pixels;
      }
    }
  });
}

template <class Source>
at::Tensor gather_rows(int64_t rows, int64_t channels, int64_t values,
                       const Normalization& normalization, at::ScalarType dtype,
                       const Source& source) {
  at::Tensor out = at::empty({rows, values}, dtype);
  AT_DISPATCH_FLOATING_TYPES_AND2(at::kHalf, at::kBFloat16, dtype, "batch_inputs", [&] {
    fill_rows<scalar_t>(out, channels, normalization, source);
  });
  return out;
}

/// Returns the numbers of examples (B, ...), normalized in float64 and rounded to `dtype`.
at::Tensor normalize_numbers(const at::Tensor& numbers, const Normalization& normalization,
                             at::ScalarType dtype) {
  const auto rows = numbers.flatten(1).to(at::kDouble);
  const auto row = [&](const std::vector<double>& list) {
    return at::tensor(list, at::kDouble);  // one number for all, or one for each column
  };
  return rows.sub(row(normalization.mean)).div_(row(normalization.deviation)).to(dtype);
}

void require_floating_point(at::ScalarType dtype) {
  if (at::isFloatingType(dtype)) return;
  fail<TensorError>(kBatch, "inputs must be of a floating-point dtype", c10::toString(dtype));
}

/// Returns `indices` as contiguous int64 on the CPU. Throws TensorError if one is not in [0, size).
at::Tensor checked_indices(const at::Tensor& indices, int64_t size) {
  if (!indices.defined() || indices.dim() != 1 || indices.scalar_type() != at::kLong) {
    fail<TensorError>(
        kBatch, "indices must be int64 of one dimension",
        indices.defined()
            ? fmt::format("{} of {}", c10::toString(indices.scalar_type()), indices.dim())
            : "an undefined tensor");
  }
  const at::Tensor checked = indices.to(at::kCPU).contiguous();
  const auto* values = checked.data_ptr<int64_t>();
  const auto* end = values + checked.numel();
  const auto* wrong =
      std::find_if(values, end, [size](int64_t index) { return index < 0 || index >= size; });
  if (wrong != end) {
    fail<TensorError>(kBatch, fmt::format("indices must be 0 to {}", size - 1),
                      fmt::format("{}", *wrong));
  }
  return checked;
}

void check_images(const at::Tensor& images) {
  if (images.defined() && images.scalar_type() == at::kByte && images.device().is_cpu() &&
      images.dim() >= 2 && images.dim() <= 4) {
    return;
  }
  fail<TensorError>(
      kBatch, "images must be uint8 (N, C, H, W), (N, H, W) or (H, W) on the CPU",
      images.defined()
          ? fmt::format("{} of {} dimensions", c10::toString(images.scalar_type()), images.dim())
          : "an undefined tensor");
}

void check_entries(const char* what, const std::vector<double>& list, const Dataset& dataset) {
  const auto entries = static_cast<int64_t>(list.size());
  const auto all = dataset.holds_images() ? dataset.channels() : dataset.values();
  if (entries == 1 || entries == all) return;
  fail<ArgumentError>(
      kBatch,
      fmt::format("--{} must be one number, or {} numbers, one for each {}", what, all,
                  dataset.holds_images() ? "channel of the images" : "number of an example"),
      fmt::format("{}", entries));
}

}  // namespace

void check(const Normalization& normalization) {
  if (normalization.mean.empty() || normalization.deviation.empty()) {
    fail<ArgumentError>(kBatch, "a mean and a deviation must be given", "none");
  }
  for (const double deviation : normalization.deviation) {
    const auto rounded = static_cast<float>(deviation);
    // A deviation of almost 0 would turn every pixel into Inf, just as 0 would.
    if (std::isfinite(rounded) && std::isfinite(1 / rounded)) continue;
    fail<ArgumentError>(kBatch,
                        "the deviation that inputs are divided by must be a number that float32 "
                        "can hold and invert",
                        fmt::format("{}", deviation));
  }
  for (const double mean : normalization.mean) {
    if (std::isfinite(static_cast<float>(mean))) continue;
    fail<ArgumentError>(kBatch,
                        "the mean that is subtracted from inputs must be a number that float32 can "
                        "hold",
                        fmt::format("{}", mean));
  }
}

void require_fit(const Normalization& normalization, const Dataset& dataset) {
  check_entries("mean", normalization.mean, dataset);
  check_entries("deviation", normalization.deviation, dataset);
}

at::Tensor batch_inputs(const Dataset& dataset, const at::Tensor& indices,
                        const Normalization& normalization, at::ScalarType dtype) {
  require_floating_point(dtype);
  check(normalization);
  const at::Tensor wanted = checked_indices(indices, dataset.size());
  if (!dataset.holds_images()) {
    require_fit(normalization, dataset);
    return normalize_numbers(dataset.inputs.index_select(0, wanted), normalization, dtype);
  }
  check_images(dataset.inputs);
  require_fit(normalization, dataset);
  const at::Tensor images = dataset.inputs.contiguous();
  const int64_t values = dataset.values();
  const auto* all = images.data_ptr<uint8_t>();
  const auto* rows = wanted.data_ptr<int64_t>();
  return gather_rows(wanted.numel(), dataset.channels(), values, normalization, dtype,
                     [=](int64_t row) { return all + rows[row] * values; });
}

at::Tensor normalize_images(const at::Tensor& images, const Normalization& normalization,
                            at::ScalarType dtype) {
  check_images(images);
  Dataset batch;
  batch.inputs = images.dim() == 2 ? images.unsqueeze(0) : images;
  batch.labels = at::zeros({batch.inputs.size(0)}, at::kLong);
  return batch_inputs(batch, at::arange(batch.size(), at::kLong), normalization, dtype);
}

at::Tensor batch_labels(const Dataset& dataset, const at::Tensor& indices) {
  return dataset.labels.index_select(0, checked_indices(indices, dataset.size()));
}

Dataset select(const Dataset& dataset, const at::Tensor& indices) {
  const at::Tensor wanted = checked_indices(indices, dataset.size());
  auto selected = dataset;
  selected.inputs = dataset.inputs.index_select(0, wanted);
  selected.labels = dataset.labels.index_select(0, wanted);
  return selected;
}

}  // namespace lowrank::app
