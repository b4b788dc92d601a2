#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <vector>

#include "app/data/dataset.h"

namespace lowrank::app {

/// Returns a model's outputs for all examples, logits (N, classes) or numbers (N, ...), on the CPU,
/// computed without gradients. The size of the batches depends on the examples alone, so that the
/// same weights give the same bits.
at::Tensor compute_outputs(const std::function<at::Tensor(const at::Tensor&)>& forward,
                           const Dataset& data, const Normalization& normalization,
                           at::ScalarType dtype = at::kFloat, at::Device device = at::kCPU);

/// How many examples were classified right and wrong.
struct Evaluation {
  int64_t correct = 0;
  int64_t total = 0;
  std::vector<int64_t> wrong_by_class;  ///< wrong predictions among the examples of each class
  std::vector<int64_t> total_by_class;
  at::Tensor confusion;  ///< int64 (classes, classes): rows are true classes, columns predictions

  double accuracy() const;
  bool operator==(const Evaluation& other) const;
};

/// Compares the largest logit of each row with the label. Throws TensorError if `logits` is not
/// (N, data.classes).
Evaluation evaluate(const at::Tensor& logits, const Dataset& data);

/// How far a model is from the numbers that it is to predict.
struct RegressionError {
  double mean_squared = 0;
  double mean_absolute = 0;
  /// The share of the variance that is explained (R²): 1 - mean_squared / variance, over all
  /// numbers. 0 for numbers that are all the same.
  double explained = 0;
  int64_t total = 0;  ///< examples
};

/// Compares outputs with the numbers to predict, in float64. Throws TensorError if there are not as
/// many.
RegressionError regression_error(const at::Tensor& outputs, const Dataset& data);

}  // namespace lowrank::app
