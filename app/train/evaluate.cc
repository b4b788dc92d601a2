#include "app/train/evaluate.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <fmt/ranges.h>
#include <lowrank/error.h>

#include <algorithm>

namespace lowrank::app {
namespace {

constexpr int64_t kEvaluationBatch = 1000;

std::vector<int64_t> to_vector(const at::Tensor& tensor) {
  return {tensor.data_ptr<int64_t>(), tensor.data_ptr<int64_t>() + tensor.numel()};
}

}  // namespace

at::Tensor compute_logits(const std::function<at::Tensor(const at::Tensor&)>& forward,
                          const ImageDataset& data, const Normalization& normalization,
                          at::ScalarType dtype, at::Device device) {
  const at::NoGradGuard no_grad;
  std::vector<at::Tensor> parts;
  for (int64_t begin = 0; begin < data.size(); begin += kEvaluationBatch) {
    const auto indices =
        at::arange(begin, std::min(begin + kEvaluationBatch, data.size()), at::kLong);
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

Evaluation evaluate(const at::Tensor& logits, const ImageDataset& data) {
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

}  // namespace lowrank::app
