#include "app/data/dataset.h"

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <lowrank/error.h>

#include <array>
#include <cmath>

namespace lowrank::app {
namespace {

constexpr const char* kDataset = "data";

void check_label(const Dataset& dataset, int64_t label) {
  if (dataset.classes == 0) {
    fail<ArgumentError>(kDataset, fmt::format("{} must have classes", dataset.name),
                        "numbers to predict");
  }
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

/// The pixels of one channel, counted by value: sums over them are exact, whatever their number.
struct Histogram {
  std::array<int64_t, 256> counts{};

  void add(const uint8_t* pixels, int64_t number) {
    for (int64_t i = 0; i < number; ++i) ++counts[pixels[i]];
  }
  /// Adds the mean and the deviation of the pixels divided by 255.
  void add_statistics_to(Normalization& statistics) const {
    double total = 0, mean = 0, variance = 0;
    for (size_t p = 0; p < 256; ++p) {
      total += static_cast<double>(counts[p]);
      mean += static_cast<double>(p) * static_cast<double>(counts[p]);
    }
    mean /= total;
    for (size_t p = 0; p < 256; ++p) {
      const double distance = static_cast<double>(p) - mean;
      variance += distance * distance * static_cast<double>(counts[p]);
    }
    statistics.mean.push_back(mean / 255);
    statistics.deviation.push_back(std::sqrt(variance / total) / 255);
  }
};

Normalization pixel_statistics(const Dataset& dataset) {
  const at::Tensor images = dataset.inputs.contiguous();
  const auto channels = dataset.channels(), pixels = dataset.height() * dataset.width();
  const auto* values = images.data_ptr<uint8_t>();
  Normalization statistics{{}, {}};
  for (int64_t channel = 0; channel < channels; ++channel) {
    Histogram histogram;
    for (int64_t i = 0; i < images.size(0); ++i) {
      histogram.add(values + (i * channels + channel) * pixels, pixels);
    }
    histogram.add_statistics_to(statistics);
  }
  return statistics;
}

Normalization column_statistics(const at::Tensor& inputs) {
  const auto rows = (inputs.dim() == 2 ? inputs : inputs.reshape({-1, 1})).to(at::kDouble);
  const auto mean = rows.mean(0).contiguous();
  const auto deviation = rows.std(0, /*unbiased=*/false).contiguous();
  const auto to_vector = [](const at::Tensor& values) {
    return std::vector<double>(values.data_ptr<double>(),
                               values.data_ptr<double>() + values.numel());
  };
  return {to_vector(mean), to_vector(deviation)};
}

}  // namespace

bool Dataset::holds_images() const { return inputs.defined() && inputs.scalar_type() == at::kByte; }

int64_t Dataset::channels() const {
  return !holds_images() ? 0 : inputs.dim() == 4 ? inputs.size(1) : 1;
}

int64_t Dataset::height() const { return holds_images() ? inputs.size(-2) : 0; }

int64_t Dataset::width() const { return holds_images() ? inputs.size(-1) : 0; }

int64_t Dataset::values() const {
  return c10::multiply_integers(inputs.sizes().begin() + 1, inputs.sizes().end());
}

std::string Dataset::shape_text() const {
  if (inputs.dim() == 2) return fmt::format("{} numbers", values());
  return fmt::format("{}", fmt::join(inputs.sizes().slice(1), " x "));
}

at::Tensor indices_of_class(const Dataset& dataset, int64_t label) {
  check_label(dataset, label);
  return dataset.labels.eq(label).nonzero().flatten();
}

at::Tensor indices_of_other_classes(const Dataset& dataset, int64_t label) {
  check_label(dataset, label);
  return dataset.labels.ne(label).nonzero().flatten();
}

std::vector<int64_t> class_counts(const Dataset& dataset) {
  std::vector<int64_t> counts(static_cast<size_t>(dataset.classes), 0);
  if (dataset.classes == 0) return counts;
  const at::Tensor labels = dataset.labels.contiguous();
  const auto* values = labels.data_ptr<int64_t>();
  for (int64_t i = 0; i < dataset.size(); ++i) ++counts.at(static_cast<size_t>(values[i]));
  return counts;
}

std::string class_name(const Dataset& dataset, int64_t label) {
  const auto place = static_cast<size_t>(label);
  return place < dataset.class_names.size() ? dataset.class_names[place] : std::to_string(label);
}

Normalization input_statistics(const Dataset& dataset) {
  if (!dataset.inputs.defined() || dataset.inputs.numel() == 0) {
    fail<TensorError>(kDataset, "the statistics of inputs need at least one number", "none");
  }
  auto statistics =
      dataset.holds_images() ? pixel_statistics(dataset) : column_statistics(dataset.inputs);
  for (auto& deviation : statistics.deviation) {
    if (deviation == 0) deviation = 1;
  }
  return statistics;
}

}  // namespace lowrank::app
