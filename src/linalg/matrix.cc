#include "linalg/matrix.h"

#include <ATen/ATen.h>
#include <fmt/ranges.h>
#include <lowrank/error.h>

#include <cmath>
#include <limits>
#include <string>

namespace lowrank {
namespace {

at::ScalarType computing_dtype(at::ScalarType dtype) {
  if (at::isFloatingType(dtype)) return dtype == at::kDouble ? at::kDouble : at::kFloat;
  return at::kDouble;
}

std::string shape_of(const at::Tensor& w) {
  return fmt::format("{} dimension{}, ({})", w.dim(), w.dim() == 1 ? "" : "s",
                     fmt::join(w.sizes(), ", "));
}

[[noreturn]] void fail_not_finite(std::string_view operation, std::string_view name,
                                  const at::Tensor& w) {
  const int64_t nans = w.isnan().sum().item<int64_t>();
  const int64_t infinities = w.isinf().sum().item<int64_t>();
  // argmax gives the first of equal maxima, in row-major order.
  const int64_t first = w.isfinite().logical_not().to(at::kByte).flatten().argmax().item<int64_t>();
  const int64_t row = first / w.size(1);
  const int64_t column = first % w.size(1);
  std::string counts;
  if (nans > 0) counts = fmt::format("{} NaN", nans);
  if (infinities > 0) counts += fmt::format("{}{} Inf", nans > 0 ? " and " : "", infinities);
  fail<TensorError>(
      operation, fmt::format("{} must hold only finite numbers", name),
      fmt::format("{}, the first in row {}, column {} (counted from 0)", counts, row, column));
}

}  // namespace

at::Tensor finite_matrix(std::string_view operation, std::string_view name, const at::Tensor& w) {
  if (!w.defined()) {
    fail<TensorError>(operation, fmt::format("{} must be a matrix", name), "an undefined tensor");
  }
  if (w.dim() != 2) {
    fail<TensorError>(operation, fmt::format("{} must be a matrix of 2 dimensions", name),
                      shape_of(w));
  }
  if (w.layout() != at::kStrided || w.is_quantized()) {
    fail<TensorError>(operation, fmt::format("{} must be a dense tensor", name),
                      "a sparse or quantized one", "Convert it first.");
  }
  if (w.is_meta()) {
    fail<TensorError>(operation, fmt::format("{} must have data", name), "a meta tensor");
  }
  if (w.is_complex()) {
    fail<TensorError>(operation, fmt::format("{} must hold real numbers", name),
                      c10::toString(w.scalar_type()));
  }
  const auto matrix = w.detach().to(computing_dtype(w.scalar_type()));
  if (matrix.numel() == 0) return matrix;
  // A NaN makes both ends of the range NaN, so the usual case takes one pass and no temporary.
  const auto [least, most] = at::aminmax(matrix);
  if (!std::isfinite(least.item<double>()) || !std::isfinite(most.item<double>())) {
    fail_not_finite(operation, name, matrix);
  }
  return matrix;
}

double spacing_of(at::ScalarType dtype) {
  return computing_dtype(dtype) == at::kDouble ? std::numeric_limits<double>::epsilon()
                                               : std::numeric_limits<float>::epsilon();
}

}  // namespace lowrank
