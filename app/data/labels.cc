#include "app/data/labels.h"

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <lowrank/error.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <map>
#include <optional>
#include <set>

namespace lowrank::app {
namespace {

constexpr int64_t kMostClasses = 1'000'000;
constexpr const char* kNumbersHint = "Pass --loss mse if they are numbers to predict.";

[[noreturn]] void fail_label(const std::string& where, const std::string& required,
                             const std::string& found, const std::string& hint = {}) {
  fail<FileError>("data", fmt::format("the labels in {} must be {}", where, required), found, hint);
}

/// Returns the numbers that all of these texts are; nothing if one is none.
std::optional<std::vector<double>> numbers_of(const std::vector<std::string>& texts) {
  std::vector<double> numbers;
  numbers.reserve(texts.size());
  for (const auto& text : texts) {
    double number = 0;
    const auto* end = text.data() + text.size();
    const auto [stop, error] = std::from_chars(text.data(), end, number);
    if (error != std::errc() || stop != end) return std::nullopt;
    numbers.push_back(number);
  }
  return numbers;
}

/// Returns classes that are stored as floating-point numbers as whole numbers.
at::Tensor as_whole_numbers(const at::Tensor& labels, const std::string& where) {
  if (!labels.is_floating_point()) return labels;
  const auto are_whole = labels.eq(labels.floor()).logical_and(at::isfinite(labels));
  if (labels.dim() == 1 && are_whole.all().item<bool>()) return labels.to(at::kLong);
  fail_label(where, "classes for --loss cross-entropy: whole numbers of at least 0, or names",
             labels.dim() == 1
                 ? std::string("numbers with decimals")
                 : fmt::format("numbers of shape ({})", fmt::join(labels.sizes(), ", ")));
}

bool are_one_hot(const at::Tensor& labels) {
  return labels.dim() == 2 && labels.min().item<int64_t>() == 0 &&
         labels.max().item<int64_t>() == 1 && labels.sum(1).eq(1).all().item<bool>();
}

void set_names(Dataset& dataset, const std::vector<std::string>& labels,
               const std::vector<std::string>& known, const std::string& where) {
  dataset.class_names = known;
  if (known.empty()) {
    const std::set<std::string> all(labels.begin(), labels.end());
    dataset.class_names.assign(all.begin(), all.end());
  }
  std::map<std::string, int64_t> numbers;
  for (const auto& name : dataset.class_names) {
    numbers.emplace(name, static_cast<int64_t>(numbers.size()));
  }
  std::vector<int64_t> values;
  values.reserve(labels.size());
  for (const auto& label : labels) {
    const auto found = numbers.find(label);
    if (found == numbers.end()) {
      fail_label(where, fmt::format("classes that the model knows: {}", list_names(known)),
                 fmt::format("\"{}\" for example {}", label, values.size()));
    }
    values.push_back(found->second);
  }
  dataset.labels = at::tensor(values, at::kLong);
  dataset.classes = std::max<int64_t>(2, static_cast<int64_t>(dataset.class_names.size()));
}

}  // namespace

void set_labels(Dataset& dataset, const at::Tensor& given, const DataSource& source,
                const std::string& where) {
  const bool are_classes = source.needs_classes || !given.is_floating_point();
  const bool is_column = given.dim() == 2 && given.size(1) == 1;
  auto labels = is_column && are_classes ? given.squeeze(1) : given;
  if (source.needs_classes) labels = as_whole_numbers(labels, where);
  if (labels.dim() == 0 || labels.size(0) != dataset.inputs.size(0)) {
    fail_label(where, fmt::format("one for each of the {} examples", dataset.inputs.size(0)),
               labels.dim() == 0 ? "a single number" : fmt::format("{}", labels.size(0)));
  }
  if (labels.numel() == 0) {
    fail_label(where, "one number or more for each example",
               fmt::format("an array of shape ({})", fmt::join(labels.sizes(), ", ")));
  }
  if (source.predicts_numbers || labels.is_floating_point()) {
    if (!at::isfinite(labels.to(at::kFloat)).all().item<bool>()) {
      fail_label(where, "finite and in the range of float32", "a number that is not");
    }
    const auto dtype = labels.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
    dataset.labels = (labels.dim() == 1 ? labels.unsqueeze(1) : labels).to(dtype).contiguous();
    dataset.classes = 0;
    return;
  }
  if (labels.dim() != 1) {
    fail_label(where, "one whole number for each example, or floating-point numbers",
               fmt::format("whole numbers of shape ({})", fmt::join(labels.sizes(), ", ")),
               are_one_hot(labels) ? "They seem to be one-hot: give numpy.argmax(labels, axis=1)."
                                   : kNumbersHint);
  }
  dataset.labels = labels.to(at::kLong).contiguous();
  const auto least = dataset.labels.min().item<int64_t>();
  const auto most = dataset.labels.max().item<int64_t>();
  if (least < 0 || most >= kMostClasses) {
    fail_label(where, fmt::format("classes of 0 to {}", kMostClasses - 1),
               fmt::format("{}", least < 0 ? least : most), kNumbersHint);
  }
  dataset.classes = std::max<int64_t>(2, most + 1);
}

void set_no_labels(Dataset& dataset, const DataSource& source) {
  const auto count = dataset.inputs.size(0);
  dataset.has_labels = false;
  dataset.class_names = source.class_names;
  dataset.classes = source.predicts_numbers
                        ? 0
                        : std::max<int64_t>(2, static_cast<int64_t>(source.class_names.size()));
  dataset.labels = source.predicts_numbers ? at::zeros({count, 1}) : at::zeros({count}, at::kLong);
}

void set_labels(Dataset& dataset, const std::vector<std::string>& labels,
                const std::vector<std::string>& known, const DataSource& source,
                const std::string& where) {
  const auto empty = std::find(labels.begin(), labels.end(), "");
  if (empty != labels.end()) {
    fail_label(where, "given for each example",
               fmt::format("none for example {}", empty - labels.begin()));
  }
  const auto numbers = known.empty() ? numbers_of(labels) : std::nullopt;
  if (!numbers) {
    if (!source.predicts_numbers) return set_names(dataset, labels, known, where);
    fail_label(where, "numbers, because the loss is mse", "a text that is no number");
  }
  const bool are_whole = std::all_of(numbers->begin(), numbers->end(), [](double number) {
    return std::isfinite(number) && number == std::floor(number);
  });
  const auto values = at::tensor(*numbers, at::kDouble);
  constexpr double kMostWhole = 1e15;  // above it, float64 does not tell them apart
  set_labels(dataset, are_whole ? values.clamp(-kMostWhole, kMostWhole).to(at::kLong) : values,
             source, where);
}

}  // namespace lowrank::app
