#include <ATen/ATen.h>
#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>
#include <fmt/format.h>
#include <lowrank/error.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "app/images/dataset.h"

namespace lowrank::app {
namespace {

constexpr const char* kBatch = "data";
/// The fewest pixels that are worth waking up a thread for.
constexpr int64_t kPixelsPerThread = int64_t{1} << 16;

/// Returns what each pixel value is normalized to. Every step is rounded to `number`, as in
/// torchvision.
template <class number>
std::array<number, 256> normalized_values(const Normalization& normalization) {
  const auto mean = static_cast<number>(normalization.mean);
  const auto deviation = static_cast<number>(normalization.deviation);
  std::array<number, 256> values;
  for (size_t p = 0; p < 256; ++p) {
    const number scaled = static_cast<number>(p) / number{255};
    const number centred = scaled - mean;
    values[p] = centred / deviation;
  }
  return values;
}

template <class scalar>
std::array<scalar, 256> lookup_table(const Normalization& normalization) {
  if constexpr (std::is_same_v<scalar, double>) {
    return normalized_values<double>(normalization);
  } else {
    const auto values = normalized_values<float>(normalization);
    std::array<scalar, 256> table;
    std::transform(values.begin(), values.end(), table.begin(),
                   [](float value) { return static_cast<scalar>(value); });
    return table;
  }
}

/// Fills row i of `out` (rows, pixels) with the normalized image that `source(i)` points to.
template <class scalar, class Source>
void fill_rows(const at::Tensor& out, const Normalization& normalization, const Source& source) {
  const auto table = lookup_table<scalar>(normalization);
  const int64_t pixels = out.size(1);
  auto* values = out.data_ptr<scalar>();
  const int64_t grain = std::max<int64_t>(1, kPixelsPerThread / std::max<int64_t>(1, pixels));
  at::parallel_for(0, out.size(0), grain, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const uint8_t* image = source(row);
      scalar* to = values + row * pixels;
      for (int64_t p = 0; p < pixels; ++p) to[p] = table[image[p]];
    }
  });
}

template <class Source>
at::Tensor gather_rows(int64_t rows, int64_t pixels, const Normalization& normalization,
                       at::ScalarType dtype, const Source& source) {
  check(normalization);
  if (!at::isFloatingType(dtype)) {
    fail<TensorError>(kBatch, "inputs must be of a floating-point dtype", c10::toString(dtype));
  }
  at::Tensor out = at::empty({rows, pixels}, dtype);
  AT_DISPATCH_FLOATING_TYPES_AND2(at::kHalf, at::kBFloat16, dtype, "batch_inputs",
                                  [&] { fill_rows<scalar_t>(out, normalization, source); });
  return out;
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
      (images.dim() == 2 || images.dim() == 3)) {
    return;
  }
  fail<TensorError>(
      kBatch, "images must be uint8 (N, H, W) or (H, W) on the CPU",
      images.defined()
          ? fmt::format("{} of {} dimensions", c10::toString(images.scalar_type()), images.dim())
          : "an undefined tensor");
}

}  // namespace

void check(const Normalization& normalization) {
  const auto deviation = static_cast<float>(normalization.deviation);
  // A deviation of almost 0 would turn every pixel into Inf, just as 0 would.
  if (!std::isfinite(deviation) || !std::isfinite(1 / deviation)) {
    fail<ArgumentError>(kBatch, "the deviation that pixels are divided by must be finite and not 0",
                        fmt::format("{}", normalization.deviation));
  }
  if (!std::isfinite(static_cast<float>(normalization.mean))) {
    fail<ArgumentError>(kBatch, "the mean that is subtracted from pixels must be finite",
                        fmt::format("{}", normalization.mean));
  }
}

at::Tensor batch_inputs(const ImageDataset& dataset, const at::Tensor& indices,
                        const Normalization& normalization, at::ScalarType dtype) {
  check_images(dataset.images);
  const at::Tensor wanted = checked_indices(indices, dataset.size());
  const at::Tensor images = dataset.images.contiguous();
  const int64_t pixels = images.size(1) * images.size(2);
  const auto* all = images.data_ptr<uint8_t>();
  const auto* rows = wanted.data_ptr<int64_t>();
  return gather_rows(wanted.numel(), pixels, normalization, dtype,
                     [=](int64_t row) { return all + rows[row] * pixels; });
}

at::Tensor normalize_images(const at::Tensor& images, const Normalization& normalization,
                            at::ScalarType dtype) {
  check_images(images);
  const at::Tensor batch = (images.dim() == 2 ? images.unsqueeze(0) : images).contiguous();
  const int64_t pixels = batch.size(1) * batch.size(2);
  const auto* all = batch.data_ptr<uint8_t>();
  return gather_rows(batch.size(0), pixels, normalization, dtype,
                     [=](int64_t row) { return all + row * pixels; });
}

at::Tensor batch_labels(const ImageDataset& dataset, const at::Tensor& indices) {
  return dataset.labels.index_select(0, checked_indices(indices, dataset.size()));
}

ImageDataset select(const ImageDataset& dataset, const at::Tensor& indices) {
  const at::Tensor wanted = checked_indices(indices, dataset.size());
  return {dataset.images.index_select(0, wanted), dataset.labels.index_select(0, wanted),
          dataset.name, dataset.classes};
}

}  // namespace lowrank::app
