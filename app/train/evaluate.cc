#include "app/train/evaluate.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <fmt/ranges.h>
#include <lowrank/error.h>

#include <algorithm>

namespace lowrank::app {
namespace {

constexpr int64_t kMostExamples = 1000;
constexpr int64_t kMostNumbers = int64_t{1} << 21;  // in the inputs of a batch

int64_t evaluation_batch(const Dataset& data) {
  return std::clamp<int64_t>(kMostNumbers / std::max<int64_t>(1, data.values()), 1, kMostExamples);
}

std::vector<int64_t> to_vector(const at::Tensor& tensor) {
  return {tensor.data_ptr<int64_t>(), tensor.data_ptr<int64_t>() + tensor.numel()};
}

}  // namespace

at::Tensor compute_outputs(const std::function<at::Tensor(const at::Tensor&)>& forward,
                           const Dataset& data, const Normalization& normalization,
                           at::ScalarType dtype, at::Device device) {
  const at::NoGradGuard no_grad;
  std::vector<at::Tensor> parts;
  const auto batch = evaluation_batch(data);
  for (int64_t begin = 0; begin < data.size(); begin += batch) {
    const auto indices = at::arange(begin, std::min(begin + batch, data.size()), at::kLong);
    const auto inputs = batch_inputs(data, indices, normalization, dtype);
    parts.push_back(forward(inputs.to(device)).cpu());
  }
  return at::cat(parts);
}

double Evaluation::accuracy() const {
  return total == 0 ? 0 : static_cast<double>(correct) / static_cast<double>(total);
}

bool Evaluation::operator==(const Evaluation& other) const {
  return correct == other.correct && total == other.total &&
         wrong_by_class == other.wrong_by_class && total_by_class == other.total_by_class &&
         at::equal(confusion, other.confusion);
}

Evaluation evaluate(const at::Tensor& logits, const Dataset& data) {
  const auto classes = data.classes;
  if (logits.dim() != 2 || logits.size(0) != data.size() || logits.size(1) != classes) {
    fail<TensorError>("evaluate",
                      fmt::format("logits must have shape ({}, {})", data.size(), classes),
                      fmt::format("({})", fmt::join(logits.sizes(), ", ")),
                      "The model must have one output per class.");
  }
  const auto cells = data.labels * classes + logits.argmax(1);
  Evaluation evaluation;
  evaluation.confusion =
      at::bincount(cells, /*weights=*/{}, classes * classes).view({classes, classes});
  const auto right = evaluation.confusion.diagonal();
  const auto totals = evaluation.confusion.sum(1);
  evaluation.correct = right.sum().item<int64_t>();
  evaluation.total = data.size();
  evaluation.total_by_class = to_vector(totals.contiguous());
  evaluation.wrong_by_class = to_vector((totals - right).contiguous());
  return evaluation;
}

RegressionError regression_error(const at::Tensor& outputs, const Dataset& data) {
  if (outputs.numel() != data.labels.numel()) {
    fail<TensorError>(
        "evaluate",
        fmt::format("outputs must have shape ({})", fmt::join(data.labels.sizes(), ", ")),
        fmt::format("({})", fmt::join(outputs.sizes(), ", ")));
  }
  const auto labels = data.labels.to(at::kDouble);
  const auto errors = outputs.reshape(labels.sizes()).to(at::kDouble) - labels;
  const double squared = errors.square().mean().item<double>();
  const double variance = labels.var(/*unbiased=*/false).item<double>();
  return {.mean_squared = squared,
          .mean_absolute = errors.abs().mean().item<double>(),
          .explained = variance > 0 ? 1 - squared / variance : 0,
          .total = data.size()};
}

}  // namespace lowrank::app
